"""Vega-Lite specifications of the pages' charts, from plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_exp.report.page import Chart

Rows = Sequence[dict[str, Any]]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched
HEIGHT = 240  # pixels


def chart(rows: Rows, **spec: Any) -> Chart:
    """Return a specification over ``rows`` that is as wide as the page."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": list(rows)},
        **spec,
    }


def many_marks(rows: Rows, most: int = 2000) -> dict[str, Any]:
    """Return the setting that draws a chart of more marks as pixels, since SVG is slow then."""
    return {"usermeta": {"embedOptions": {"renderer": "canvas"}}} if len(rows) > most else {}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return a quantitative channel's title, without forcing zero into the axis."""
    return {"type": "quantitative", "title": title, "scale": {"zero": False}, **more}


def lines(
    rows: Rows, x: str, y: str, series: str, x_title: str, y_title: str, y_format: str = ".4~g"
) -> Chart:
    """Return lines of ``y`` over ``x``, one a value of ``series``, and a cursor."""
    ids = {name: f"r{n}" for n, name in enumerate(dict.fromkeys(row[series] for row in rows))}
    encoding = {
        "x": {"field": x, **axis(x_title)},
        "y": {"field": y, **axis(y_title, axis={"format": y_format})},
        "color": {"field": series, "type": "nominal", "title": None, "sort": None},
    }
    tooltip = [{"field": x, "type": "quantitative", "title": x_title}]
    tooltip += [
        {"field": key, "type": "quantitative", "format": y_format, "title": str(name)}
        for name, key in ids.items()
    ]
    return chart([{**row, "id": ids[row[series]]} for row in rows], layer=layers(encoding, tooltip))


def layers(encoding: dict[str, Any], tooltip: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lines, their points at the cursor, and the cursor; rows have the ``id`` of their line.

    A click on the legend keeps the lines of a colour alone; shift-click adds those of another.
    """
    fields = [encoding["color"]["field"]]
    shown = {"name": "shown", "select": {"type": "point", "fields": fields}, "bind": "legend"}
    opacity = {"condition": {"param": "shown", "value": 1}, "value": 0.08}
    at_cursor = {key: value for key, value in encoding.items() if key != "strokeDash"}
    return [
        {"params": [shown], "mark": {"type": "line"}, "encoding": {**encoding, "opacity": opacity}},
        {
            "transform": [{"filter": {"param": "cursor", "empty": False}}],
            "mark": {"type": "point", "filled": True, "size": 50},
            "encoding": {**at_cursor, "opacity": opacity},
        },
        cursor(encoding["x"], encoding["y"]["field"], tooltip),
    ]


def cursor(
    x: Mapping[str, Any], y: str, tooltip: Sequence[dict[str, Any]], **encoding: Any
) -> dict[str, Any]:
    """Return the layer of a rule at the pointer that reads ``y`` of every line there.

    ``tooltip`` names lines by the ``id`` of their rows and has their names as titles: in a field's
    name Vega would read dots, brackets and quotes as a path.
    """
    select = {
        "type": "point", "fields": [x["field"]], "nearest": True,
        "on": "pointermove", "clear": "pointerout",
    }  # fmt: skip
    near = {"condition": {"param": "cursor", "empty": False, "value": 1}, "value": 0}
    return {
        "transform": [{"pivot": "id", "value": y, "groupby": [x["field"]]}],
        "mark": {"type": "rule"},
        "encoding": {"x": x, "opacity": near, "tooltip": list(tooltip), **encoding},
        "params": [{"name": "cursor", "select": select}],
    }

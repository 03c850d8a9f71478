"""Vega-Lite specifications of the pages' charts, from plain rows."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return lines of ``y`` over ``x``, one a value of ``series``, with a cursor that reads them.

    A click on the legend keeps that series alone; shift-click adds one.
    """
    encoding = {
        "x": {"field": x, **axis(x_title)},
        "y": {"field": y, **axis(y_title, axis={"format": y_format})},
        "color": {"field": series, "type": "nominal", "title": None, "sort": None},
        "opacity": {"condition": {"param": "shown", "value": 1}, "value": 0.08},
    }
    names = list(dict.fromkeys(row[series] for row in rows))
    tooltip = [{"field": x, "type": "quantitative", "title": x_title}]
    tooltip += [{"field": str(n), "type": "quantitative", "format": y_format} for n in names]
    shown = {
        "name": "shown",
        "select": {"type": "point", "fields": [series]},
        "bind": "legend",
    }
    cursor = {
        "name": "cursor",
        "select": {
            "type": "point", "fields": [x], "nearest": True,
            "on": "pointermove", "clear": "pointerout",
        },
    }  # fmt: skip
    near = {"condition": {"param": "cursor", "empty": False, "value": 1}, "value": 0}
    return chart(
        rows,
        layer=[
            {"params": [shown], "mark": {"type": "line"}, "encoding": encoding},
            {
                "transform": [{"filter": {"param": "cursor", "empty": False}}],
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": encoding,
            },
            {
                "transform": [{"pivot": series, "value": y, "groupby": [x]}],
                "mark": {"type": "rule"},
                "encoding": {"x": encoding["x"], "opacity": near, "tooltip": tooltip},
                "params": [cursor],
            },
        ],
    )

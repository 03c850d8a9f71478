"""Charts of a sweep, chosen by how many settings were swept, and of what kind."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any, NamedTuple

from mnist_exp.plots.sweep_points import (
    MOST_ANNOTATED,
    best_of,
    is_logarithmic,
    is_numeric,
    is_scattered,
)
from mnist_exp.report.charts import axis, chart, many_marks
from mnist_exp.report.page import Chart
from mnist_exp.report.parallel_coordinates import Axis, Line, parallel_coordinates
from mnist_exp.report.sweep_tables import short_names
from mnist_exp.report.swept import Swept, with_settings
from mnist_exp.run.objective import MINIMIZE
from mnist_exp.run.over_seeds import SEED
from mnist_exp.run.sweep_jobs import Row, ranking_of
from mnist_exp.run.text_table import Share

MARKED = "#d55e00"  # the best, and what failed; legible on light and on dark
CELL = 46  # pixels of a heat map's row
AROUND = 130  # pixels of its axis and legend
ROOM = 52  # pixels that an annotated cell needs across
LABEL = "datum.label === '' ? 'default' : truncate(datum.label, 24)"
LETTER = 6.2  # pixels across, about
CLICK = "A click shows the jobs in the table."


class Picture(NamedTuple):
    """A chart with its name on the page and the sentence under it."""

    name: str
    chart: Chart
    caption: str


def pictures(rows: Sequence[Row]) -> tuple[list[Picture], list[Picture]]:
    """Return the main charts of a sweep, and small ones of each setting; none without settings.

    One setting makes a curve, two a heat map; three and more, and a search, whose jobs fill no
    grid, parallel coordinates, and a small chart of the objective over each setting.
    """
    swept = Swept(with_settings(rows))
    if not swept.names or not any(point.accuracy is not None for point in swept.points.values()):
        return [], []
    if len(swept.names) == 1:
        return [curve(swept)], []
    if len(swept.names) == 2 and not is_scattered(swept.points, swept.values):
        return [heat_map(swept)], []
    return [across(swept)], [against(swept, n) for n in range(len(swept.names))]


def curve(swept: Swept) -> Picture:
    """Return accuracy over one setting; values that are words are not connected."""
    (name,) = swept.names
    values = swept.values[name]
    numeric = is_numeric(values)
    records = swept.records
    for record in records:
        record["x"] = float(record["v0"]) if numeric else record["v0"] or "default"
    place = _place(values, name, numeric)
    up = {"field": "y", **axis("", axis={"format": ".1%"}), "title": _in_lines(swept.label)}
    connected = [{"mark": {"type": "line"}}] if numeric and name != SEED else []
    layers: list[dict[str, Any]] = [
        *connected,
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1,
                     "cursor": "pointer"},
            "encoding": {"tooltip": _tooltip(swept)},
        },
        {
            "transform": [{"filter": "datum.best"}],
            "mark": {"type": "point", "size": 220, "strokeWidth": 2.5, "color": MARKED},
        },
    ]  # fmt: skip
    marks = [{"encoding": {"y": up}, "transform": [{"filter": "isValid(datum.y)"}],
              "layer": layers}]  # fmt: skip
    if any(record["y"] is None for record in records):
        marks.append(_failed())
    drawn = chart(records, encoding={"x": place}, layer=marks, height=300)
    return Picture("accuracy", drawn, f"{_said_of_best(swept, 'Circled')} {CLICK}".strip())


def _failed() -> dict[str, Any]:
    """Return the layer that marks where no mean is by the status of what should be there."""
    text = {"type": "text", "angle": 270, "color": MARKED, "align": "left", "dx": 8, "dy": -6}
    return {
        "transform": [{"filter": "!isValid(datum.y)"}],
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [2, 4], "color": MARKED}},
            {
                "mark": text,
                "encoding": {"text": {"field": "status"}, "y": {"value": {"expr": "height"}}},
            },
        ],
    }  # fmt: skip


def heat_map(swept: Swept) -> Picture:
    """Return accuracy over two settings; cells are annotated where there is room."""
    one, other = swept.names
    columns, rows = swept.values[one], [*reversed(swept.values[other])]
    records = swept.records
    across = {"field": "v0", "type": "ordinal", "sort": columns, "title": one,
              "axis": {"labelExpr": LABEL, **_slanted(columns)}}  # fmt: skip
    up = {"field": "v1", "type": "ordinal", "sort": rows, "title": other,
          "axis": {"labelExpr": LABEL}}  # fmt: skip
    colour = {"field": "y", **axis(swept.label), "scale": {"scheme": "viridis", "zero": False},
              "legend": {"format": ".1%", "orient": "bottom", "direction": "horizontal",
                         "title": _in_lines(swept.label), "titleLimit": 0,
                         "gradientLength": 220}}  # fmt: skip
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "cursor": "pointer"},
            "encoding": {"color": colour, "tooltip": _tooltip(swept)},
        },
        {
            "transform": [{"filter": "datum.best"}],
            "mark": {"type": "rect", "fillOpacity": 0, "stroke": MARKED, "strokeWidth": 3},
        },
    ]
    if max(len(columns), len(rows)) <= MOST_ANNOTATED:
        layers.append(_annotations(records, len(columns)))
    height = min(max(CELL * len(rows), 120), 640) + AROUND
    drawn = chart(records, encoding={"x": across, "y": up}, layer=layers, height=height)
    return Picture("accuracy", drawn, f"{_said_of_best(swept, 'Framed')} {CLICK}".strip())


def _annotations(records: Sequence[dict[str, Any]], columns: int) -> dict[str, Any]:
    """Give each record the ``lines`` of its cell; return the layer that writes them there."""
    for record in records:
        std = "high" in record and f"±{record['high'] - record['y']:.2%}"
        record["lines"] = (
            [record["status"]] if record["y"] is None
            else [f"{record['y']:.2%}", *filter(None, [std, record["n"]])]
        )  # fmt: skip
    known = sorted(record["y"] for record in records if record["y"] is not None)
    bright = known[0] + 0.6 * (known[-1] - known[0])  # the upper end of the scale is yellow
    return {
        "mark": {"type": "text", "fontSize": 11, "lineBreak": "\n", "baseline": "middle",
                 "dy": {"expr": "-7 * (length(datum.lines) - 1)"}},
        "encoding": {
            "text": {"field": "lines"},
            "color": {"condition": [
                {"test": "!isValid(datum.y)", "value": MARKED},
                {"test": f"datum.y > {bright}", "value": "black"},
            ], "value": "white"},
            "opacity": {"condition": {"test": f"width < {ROOM * columns}", "value": 0}, "value": 1},
        },
    }  # fmt: skip


def across(swept: Swept) -> Picture:
    """Return parallel coordinates of the settings, coloured by the objective."""
    ranking = ranking_of(swept.rows)
    title, form, number = _objective(swept)
    records = [record for record in swept.records if record[number] is not None]
    short = short_names(swept.names)
    share = form.endswith("%")
    scores = [repr(float(record[number])) for record in records]
    axes = [Axis(short[name], swept.values[name]) for name in swept.names]
    axes.append(Axis(title, [*dict.fromkeys(scores)], ".1%" if share else ".3g"))
    lines = [
        Line([*(record[f"v{n}"] for n in range(len(swept.names))), score], record[number],
             f"{record['settings']}: {record['shown']}", record["find"])
        for record, score in zip(records, scores, strict=True)
    ]  # fmt: skip
    minimize = ranking is not None and ranking.direction == MINIMIZE
    each = "combination of settings, the mean over its seeds" if _has_seeds(swept) else "job"
    left_out = len(swept.points) - len(records)
    without = f" {left_out} without a result are left out." if left_out else ""
    caption = f"A line for each {each}.{without} {CLICK}"
    return Picture("across", parallel_coordinates(axes, lines, title, minimize), caption)


def against(swept: Swept, index: int) -> Picture:
    """Return the objective over one of several settings, a point for each job or mean."""
    name = swept.names[index]
    values = swept.values[name]
    numeric = is_numeric(values)
    title, form, number = _objective(swept)
    kept = (f"v{index}", number, "best", "find")
    records = [{key: r[key] for key in kept} for r in swept.records if r[number] is not None]
    for record in records:
        value = record.pop(f"v{index}")
        record |= {"x": float(value) if numeric else value or "default"}
    tooltip = [
        {"field": "x", "type": "quantitative" if numeric else "nominal", "title": name},
        {"field": number, "type": "quantitative", "title": title, "format": form},
        {"field": "find", "title": "jobs"},
    ]
    point = {"type": "point", "filled": True, "size": 36, "cursor": "pointer",
             "opacity": 0.7 if len(records) < 300 else 0.4}  # fmt: skip
    ring = {"type": "point", "size": 200, "strokeWidth": 2.5, "color": MARKED}
    drawn = chart(
        records,
        **many_marks(records, 500),
        height=180,
        encoding={
            "x": _place(values, name, numeric),
            "y": {"field": number, **axis(title, axis={"format": form})},
        },
        layer=[
            {"mark": point, "encoding": {"tooltip": tooltip}},
            {"transform": [{"filter": "datum.best"}], "mark": ring},
        ],
    )
    return Picture(f"against-{index}", drawn, "")


def _place(values: Sequence[str], name: str, numeric: bool) -> dict[str, Any]:
    """Return the encoding of a setting along the horizontal axis."""
    if not numeric:
        words = [value or "default" for value in values]
        return {"field": "x", "type": "nominal", "sort": words, "title": name,
                "axis": {**_slanted(words), "labelLimit": 140}}  # fmt: skip
    numbers = [float(value) for value in values]
    scale: dict[str, Any] = {"zero": False, "padding": 12, "nice": False}
    # an expression, since the format of a logarithmic axis drops labels
    ticks: dict[str, Any] = {"labelExpr": "format(datum.value, '~g')", "labelOverlap": "greedy"}
    if is_logarithmic(numbers):
        scale |= {"type": "log"}
    if len(numbers) <= MOST_ANNOTATED:
        ticks |= {"values": numbers}
    elif "type" not in scale:
        ticks |= {"tickCount": 5}
    else:
        low, high = floor(log10(min(numbers))), ceil(log10(max(numbers)))
        ticks |= {"values": [10.0**power for power in range(low, high + 1)]}
    return {"field": "x", "type": "quantitative", "title": name, "scale": scale, "axis": ticks}


def _objective(swept: Swept) -> tuple[str, str, str]:
    """Return the name of what ranks the jobs, its format, and its field; else of the accuracy."""
    ranking = ranking_of(swept.rows)
    if ranking is None or not any(point.score is not None for point in swept.points.values()):
        return swept.label.partition(" (")[0], ".1%", "y"
    return str(ranking), ".1%" if swept.kind is Share else ".4~g", "s"


def _tooltip(swept: Swept) -> list[dict[str, Any]]:
    ranking = ranking_of(swept.rows)
    fields = [("settings", "settings"), ("shown", swept.label)]
    if ranking is not None and ranking.column != "accuracy":
        fields.append(("objective", str(ranking)))
    return [{"field": field, "title": title} for field, title in fields]


def _said_of_best(swept: Swept, mark: str) -> str:
    best = best_of(swept.points)
    ranking = ranking_of(swept.rows)
    return f"{mark}: the best by {ranking}." if best and ranking is not None else ""


def _has_seeds(swept: Swept) -> bool:
    return any(point.asked > 1 for point in swept.points.values())


def _slanted(labels: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis whose labels slant where they have too little room."""
    narrow = f"width < {LETTER * len(labels) * min(max(map(len, labels)) + 2, 26)}"
    return {
        "labelAngle": {"expr": f"{narrow} ? -40 : 0"},
        "labelAlign": {"expr": f"{narrow} ? 'right' : 'center'"},
        "labelBaseline": {"expr": f"{narrow} ? 'middle' : 'top'"},
    }


def _in_lines(label: str) -> list[str]:
    """Break the name of an accuracy before what its mean is over."""
    first, bracket, rest = label.partition(" (")
    return [first, f"({rest}"] if bracket else [first]

"""Parallel coordinates: an axis for each setting, and a line across them for each job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log10
from typing import Any, NamedTuple

from mnist_exp.plots.sweep_points import MOST_ANNOTATED, is_logarithmic, is_numeric
from mnist_exp.report.charts import axis, chart, many_marks
from mnist_exp.report.page import Chart

RAMP = {"scheme": {"name": "viridis", "extent": [0.1, 0.8]}}  # its ends are lost on dark and light
HEIGHT = 320  # pixels
LONGEST_LABEL = 14  # characters
CLOSEST = 0.05  # of the height between two labels


class Line(NamedTuple):
    """A line: its value on each axis, the number that colours it, what it says and leads to."""

    values: Sequence[str]
    score: float
    text: str
    find: str


@dataclass(frozen=True)
class Axis:
    """An axis, with the values that occur on it as typed: sorted if they are numbers.

    Attributes
    ----------
    name : str
        As shown above it.
    values : sequence of str
        Each once.
    form : str
        How its numbers are written, as `format` takes it.
    """

    name: str
    values: Sequence[str]
    form: str = ".3g"

    @cached_property
    def places(self) -> dict[str, float]:
        """Where each value lies, in [0, 1] from below; numbers of a wide range by logarithm."""
        if not is_numeric(self.values):
            return {v: n / max(len(self.values) - 1, 1) for n, v in enumerate(self.values)}
        scaled = [log10(float(v)) if self._log else float(v) for v in self.values]
        low, high = min(scaled), max(scaled)
        return {
            value: (number - low) / (high - low) if high > low else 0.5
            for value, number in zip(self.values, scaled, strict=True)
        }

    def ticks(self) -> list[tuple[float, str]]:
        """Return places and labels: all of a few values, else the ends and the middle."""
        places = sorted(self.places.values())
        crowded = any(b - a < CLOSEST for a, b in pairwise(places))
        if len(self.values) <= MOST_ANNOTATED and not crowded:
            return [(place, self._label(value)) for value, place in self.places.items()]
        ends = [min(self.values, key=self.places.__getitem__),
                max(self.values, key=self.places.__getitem__)]  # fmt: skip
        labels = [(self.places[value], self._label(value)) for value in ends]
        if is_numeric(self.values) and places[0] < places[-1]:
            low, high = map(float, ends)
            middle = (low * high) ** 0.5 if self._log else (low + high) / 2
            labels.insert(1, (0.5, f"{middle:{self.form}}"))
        return labels

    @cached_property
    def _log(self) -> bool:
        return is_logarithmic([float(value) for value in self.values])

    def _label(self, value: str) -> str:
        if is_numeric(self.values):
            return (
                value if len(value) <= 7 and "%" not in self.form else f"{float(value):{self.form}}"
            )
        short = value if len(value) <= LONGEST_LABEL else f"{value[: LONGEST_LABEL - 1]}…"
        return short or "default"


def parallel_coordinates(
    axes: Sequence[Axis], lines: Sequence[Line], title: str, minimize: bool
) -> Chart:
    """Return the chart; the best lines are drawn last, over the others.

    Parameters
    ----------
    axes : sequence of Axis
        From left to right.
    lines : sequence of Line
        With a value for each axis.
    title : str
        What the colour is.
    minimize : bool
        Whether low is good; colours then are the other way round.
    """
    ordered = sorted(lines, key=lambda line: -line.score if minimize else line.score)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(ordered):
        for index, each in enumerate(axes):
            place = round(each.places[line.values[index]], 4)
            rows.append({"j": number, "a": each.name, "p": place, "s": line.score})
        # Vega takes a line for its first point
        rows[-len(axes)] |= {"text": line.text, "find": line.find}
    up = {
        "field": "p",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [-0.04, 1.04], "nice": False},
    }
    return chart(
        rows,
        **many_marks(rows),
        height=HEIGHT,
        encoding={"x": _across(axes), "y": up},
        layer=[_line_layer(len(ordered), title, minimize), *_tick_layers(axes)],
    )


def _across(axes: Sequence[Axis]) -> dict[str, Any]:
    """Return the encoding of the axes from left to right, whose names slant on a narrow page."""
    return {
        "field": "a", "type": "nominal", "sort": [each.name for each in axes], "title": None,
        "scale": {"type": "point"},
        "axis": {
            "orient": "top", "domain": False, "ticks": False, "grid": True, "labelPadding": 10,
            "labelAngle": {"expr": "width < 520 ? -35 : 0"}, "labelFontSize": 12, "labelLimit": 130,
            "labelAlign": {"expr": "width < 520 ? 'left' : 'center'"},
        },
    }  # fmt: skip


def _line_layer(count: int, title: str, minimize: bool) -> dict[str, Any]:
    """Return the layer of the lines; many are faint, and that below the pointer stands out."""
    hovered = {"param": "hovered", "empty": False}
    return {
        "params": [{
            "name": "hovered",
            "select": {"type": "point", "fields": ["j"], "on": "pointerover",
                       "clear": "pointerout"},
        }],
        "mark": {"type": "line", "cursor": "pointer", "interpolate": "monotone"},
        "encoding": {
            "detail": {"field": "j"},
            "color": {
                "field": "s", **axis(title), "scale": {**RAMP, "reverse": minimize},
                "legend": None,  # the last axis says it
            },
            "opacity": {"condition": {**hovered, "value": 1},
                        "value": max(0.25, min(0.9, 25 / max(count, 1)))},
            "strokeWidth": {"condition": {**hovered, "value": 4}, "value": 1.6},
            "tooltip": {"field": "text"},
        },
    }  # fmt: skip


def _tick_layers(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return the layers of the values beside the axes: a halo that lines end at, and the text."""
    rows = [{"a": e.name, "p": place, "t": text} for e in axes for place, text in e.ticks()]
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11, **style},
            "encoding": {"text": {"field": "t"}},
        }
        for style in ({"style": "halo"}, {})
    ]

"""Figures of a grid: accuracy over one setting as a curve, over more as heat maps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import product
from math import ceil, log, sqrt
from typing import Any

import numpy as np

from mnist_exp.plots.figures import (
    BLUE,
    SLANTED,
    VERMILION,
    Axes,
    Figure,
    Normalize,
    Rectangle,
    ScalarMappable,
    in_percent,
    plain_log,
)
from mnist_exp.plots.sweep_points import (
    COLOURS,
    LETTER,
    MOST_ANNOTATED,
    Point,
    Points,
    axis_label,
    best_of,
    is_logarithmic,
    is_numeric,
    short_labels,
    wrapped,
)
from mnist_exp.run.over_seeds import SEED

BEST = FAILED = VERMILION
Grid = list[list[tuple[Point | None, bool]]]  # rows of cells: point, and whether it is the best
RING: dict[str, Any] = {"s": 130, "facecolors": "none", "edgecolors": BEST, "linewidths": 2}
LABEL_GAP = 0.22  # inches between slanted tick labels


def curve_figure(points: Points, values: dict[str, list[str]], label: str) -> Figure:
    """Draw accuracy over one setting; values that are words are evenly spaced, not connected.

    The best point is circled.
    """
    ((name, ticks),) = values.items()
    numeric = is_numeric(ticks)
    width = 6.0 if numeric else min(max(6.0, 0.3 * len(ticks) + 1.5), 24.0)
    height = 4.2 if numeric else 3.8 + 0.06 * max(map(len, short_labels(ticks)))
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    positions = [float(value) for value in ticks] if numeric else [*map(float, range(len(ticks)))]
    place = {key: positions[ticks.index(key[0])] for key in points}
    drawn = {key: point for key, point in points.items() if point.accuracy is not None}
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "capsize": 3}
    if drawn:
        keys = sorted(drawn, key=lambda key: place[key])
        heights = [drawn[key].accuracy or 0.0 for key in keys]
        bars = [drawn[key].std or 0.0 for key in keys]
        style["linestyle"] = "-" if numeric and name != SEED else ""
        axis.errorbar([place[key] for key in keys], heights, bars, **style)
    for key, point in drawn.items():
        if point.missing:
            style = {"textcoords": "offset points", "color": FAILED, "fontsize": 7}
            axis.annotate(point.missing, (place[key], point.accuracy), (6, 6), **style)
    for key in best_of(points):
        axis.scatter([place[key]], [drawn[key].accuracy or 0.0], **RING)
    _mark_failed(axis, {place[key]: p.status for key, p in points.items() if key not in drawn})
    _ticks_of_curve(axis, positions, ticks, width - 1.2)
    axis.set(xlabel=axis_label(name, width - 1.2), ylabel=wrapped(label, 3.5))
    axis.yaxis.set_major_formatter(in_percent)
    axis.grid(alpha=0.3)
    return figure


def _mark_failed(axis: Axes, failed: dict[float, str]) -> None:
    """Mark where no mean is: by its status, or of many by a cross."""
    down: dict[str, Any] = {"transform": axis.get_xaxis_transform(), "color": FAILED}
    if len(failed) > MOST_ANNOTATED:
        axis.plot([*failed], [0.02] * len(failed), "x", label="without accuracy", **down)
        axis.legend()
        return
    for x, status in failed.items():
        axis.axvline(x, color=FAILED, linestyle=":")
        axis.text(x, 0.5, status, rotation=90, ha="right", va="center", **down)


def _ticks_of_curve(
    axis: Axes, positions: Sequence[float], values: Sequence[str], inches: float
) -> None:
    """Label the values; of numbers only as many as have room."""
    numeric = is_numeric(values)
    logarithmic = numeric and is_logarithmic(positions)
    if numeric and len(values) > MOST_ANNOTATED:
        if logarithmic:
            plain_log(axis, "x")
        return
    if logarithmic:
        axis.set_xscale("log")
    labels = short_labels(values)
    if numeric:
        scaled = [log(x) for x in positions] if logarithmic else [*positions]
        gap = LABEL_GAP / inches * (scaled[-1] - scaled[0])
        labels = _thinned(labels, scaled, gap)
    slanted = not numeric or sum(map(len, labels)) * LETTER > 0.6 * inches
    axis.set_xticks(positions, labels, **(SLANTED if slanted else {}))
    axis.minorticks_off()


def _thinned(labels: Sequence[str], positions: Sequence[float], gap: float) -> list[str]:
    """Blank labels that are closer than ``gap`` to the one before; the first and last stay."""
    kept: list[int] = []
    for index, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= gap:
            kept.append(index)
        elif index == len(positions) - 1:
            kept = [*kept[:-1], index] if len(kept) > 1 else [*kept, index]
    return [text if index in kept else "" for index, text in enumerate(labels)]


def maps_figure(points: Points, values: dict[str, list[str]], label: str) -> Figure:
    """Draw a heat map over the first two settings for each combination of the others.

    The best cell is framed.
    """
    (x_name, x_values), (y_name, y_values), *rest = values.items()
    panels = list(product(*(panel_values for _, panel_values in rest)))
    columns = ceil(sqrt(len(panels)))
    lines = ceil(len(panels) / columns)
    x_labels, y_labels = short_labels(x_values), short_labels(y_values)
    across = max(0.62 * min(len(x_values), MOST_ANNOTATED), 2.4)  # inches of the cells
    up = max(0.45 * min(len(y_values), MOST_ANNOTATED), 1.6)
    slanted = max(map(len, x_labels)) * LETTER > 0.9 * across / len(x_labels)
    longest = (max(map(len, x_labels)) * slanted, max(map(len, y_labels)))
    width = columns * (across + 0.6 + 0.08 * longest[1]) + 1.2
    height = lines * (up + 0.8 + 0.06 * longest[0] + 0.17 * len(rest)) + 0.9
    figure = Figure(figsize=(max(width, 5.0), height), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    known = [point.accuracy for point in points.values() if point.accuracy is not None]
    norm = Normalize(min(known, default=0), max(known, default=1))
    best = best_of(points)
    for axis, panel in zip(axes, panels, strict=False):
        keys = [[(x, y, *panel) for x in x_values] for y in y_values]
        _draw_map(axis, [[(points.get(key), key in best) for key in line] for line in keys], norm)
        _ticks_of_map(axis, x_labels, y_labels, (across, up), slanted)
        axis.set(xlabel=axis_label(x_name, across + 0.4), ylabel=axis_label(y_name, up + 0.6))
        settings = zip((name for name, _ in rest), panel, strict=True)
        room = int((across + 0.5) / (0.9 * LETTER))
        titles = [textwrap.fill(f"{name}={value}", room) for name, value in settings]
        axis.set_title("\n".join(titles), fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if known:
        label = wrapped(label, lines * (up + 0.6))
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label=label)
        bar.ax.yaxis.set_major_formatter(in_percent)
    return figure


def _ticks_of_map(
    axis: Axes, x_labels: list[str], y_labels: list[str], inches: tuple[float, float], slanted: bool
) -> None:
    """Label rows and columns, of many only every second or third."""
    x_step, y_step = (
        ceil(len(labels) * LABEL_GAP / room)
        for labels, room in zip((x_labels, y_labels), inches, strict=True)
    )
    places = range(0, len(x_labels), x_step)
    axis.set_xticks(places, x_labels[::x_step], **(SLANTED if slanted else {}))
    axis.set_yticks(range(0, len(y_labels), y_step), y_labels[::y_step])


def _draw_map(axis: Axes, grid: Grid, norm: Normalize) -> None:
    """Colour the cells, annotate them if there is room, and frame the best."""
    accuracies = [
        [np.nan if point is None or point.accuracy is None else point.accuracy for point, _ in line]
        for line in grid
    ]
    axis.imshow(accuracies, cmap=COLOURS, norm=norm, origin="lower", aspect="auto")
    axis.set_facecolor("0.9")  # shows through where a mean is missing
    annotated = max(len(grid), len(grid[0])) <= MOST_ANNOTATED
    for y, line in enumerate(grid):
        for x, (point, best) in enumerate(line):
            if point is None:
                continue
            if annotated:
                text, colour = _annotation(point, norm)
                axis.text(x, y, text, color=colour, ha="center", va="center", fontsize=7)
            if best:
                corner = (x - 0.5, y - 0.5)
                frame: dict[str, Any] = {"fill": False, "edgecolor": BEST, "linewidth": 3}
                axis.add_patch(Rectangle(corner, 1, 1, **frame, clip_on=False))


def _annotation(point: Point, norm: Normalize) -> tuple[str, str]:
    if point.accuracy is None:
        return point.status, FAILED
    text = f"{point.accuracy:.2%}"
    if point.std is not None:
        text += f"\n±{point.std:.2%}"
    if point.missing:
        text += f"\n{point.missing}"
    bright = float(norm(point.accuracy)) > 0.6  # the upper end of the scale is yellow
    return text, "black" if bright else "white"

"""Plot of a sweep: accuracy over the swept settings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt
from pathlib import Path
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
    write_png,
)
from mnist_exp.run.over_seeds import SEED, over_seeds
from mnist_exp.run.sweep_jobs import (
    BY_HELD_OUT,
    OPTIMISTIC,
    Row,
    chosen_by,
    count_by_status,
    score_of,
    swept_settings,
)
from mnist_exp.wording import counted

COLOURS = "viridis"
BEST = FAILED = VERMILION
MOST_ANNOTATED = 12  # largest number of values along an axis for which cells are annotated


@dataclass(frozen=True)
class Point:
    """Mean over the jobs that differ only in the seed.

    Attributes
    ----------
    accuracy : float or None
        Mean test accuracy over the jobs; None if no job has one.
    std : float or None
        Sample standard deviation over the jobs, or over the folds of a single job.
    status : str
        Status of the first job without an accuracy, shown in place of a missing mean.
    jobs, asked : int
        Number of jobs in the mean, and number requested.
    score : float or None
        Mean of the accuracy that may call a point the best; None: none may.
    """

    accuracy: float | None
    std: float | None
    status: str
    jobs: int = 1
    asked: int = 1
    score: float | None = None

    @property
    def missing(self) -> str:
        """Label of an incomplete mean, such as "n 2 of 3"; empty otherwise."""
        return f"n {self.jobs} of {self.asked}" if 0 < self.jobs < self.asked else ""


Points = dict[tuple[str, ...], Point]  # keyed by the value on each axis
Grid = list[list[Point | None]]  # rows of cells; None: no job has these settings


def draw(rows: Sequence[Row], path: Path, dpi: int = 120) -> None:
    """Draw accuracy over the swept settings.

    One setting gives a curve, two a heat map, more a heat map for each combination of the others.
    A search, whose jobs fill no grid, gives a point for each job instead.
    Numeric settings become axes first. Jobs that differ only in ``seed`` are averaged, unless only
    the seed was swept; a mean over fewer jobs than requested is marked. Draws nothing if no setting
    was swept.

    Parameters
    ----------
    rows : sequence of Row
        The jobs.
    path : Path
        PNG file to write.
    dpi : int
        Dots per inch.
    """
    from mnist_exp.plots.search import is_scattered, scatter_figure

    swept = swept_settings(rows)
    names = [name for name in swept if name != SEED] or swept
    if not names:
        return
    values = {name: sorted_values(rows, name) for name in names}
    names.sort(key=lambda name: not is_numeric(values[name]))  # stable: numeric ones first
    points = gather_points(rows, names)
    by_name = {name: values[name] for name in names}
    draw_axes = curve_figure if len(names) == 1 else maps_figure
    if is_scattered(points, by_name):
        draw_axes = scatter_figure
    figure = draw_axes(points, by_name)
    title = [
        f"{counted(len(rows), 'job')}: {count_by_status(rows)}",
        *_best(points, names, chosen_by(rows)),
    ]
    fewer = sum(bool(point.missing) for point in points.values())
    if fewer:
        title.append(f"{fewer} of {len(points)} means lack a job (marked n)")
    width = int(figure.get_figwidth() / 0.09)  # a letter is about 0.09 inches wide
    figure.suptitle("\n".join(textwrap.fill(line, width) for line in title), fontsize=10)
    write_png(path, figure, dpi)


def is_numeric(values: Sequence[str]) -> bool:
    """Return whether all values are finite numbers."""
    try:
        return bool(np.isfinite([float(value) for value in values]).all())
    except ValueError:
        return False


def sorted_values(rows: Sequence[Row], name: str) -> list[str]:
    """Return the values of a setting, sorted if numeric, else in job order."""
    in_job_order = sorted(rows, key=lambda row: (len(row.job), row.job))
    values = list(dict.fromkeys(row.overrides.get(name, "") for row in in_job_order))
    return sorted(values, key=float) if is_numeric(values) else values


def short_labels(values: Sequence[str]) -> list[str]:
    """Return tick labels: words unchanged, numbers of over 7 characters shortened."""
    if not is_numeric(values):
        return list(values)
    return [value if len(value) <= 7 else f"{float(value):g}" for value in values]


def gather_points(rows: Sequence[Row], names: Sequence[str]) -> Points:
    """Average the jobs that agree in the settings ``names``."""
    chosen = chosen_by(rows)
    points = {}
    for group in over_seeds(rows, names):
        mean, std = group.over(lambda row: row.accuracy)
        points[tuple(group.settings.values())] = Point(
            mean,
            group.asked[0].std if len(group.asked) == 1 else std,
            next((row.status for row in group.missing), ""),
            jobs=len(group.jobs),
            asked=len(group.asked),
            score=group.over(lambda row: score_of(row, chosen)).mean,
        )
    return points


def curve_figure(points: Points, values: dict[str, list[str]]) -> Figure:
    """Draw accuracy over one setting; values that are words are evenly spaced, not connected."""
    ((name, ticks),) = values.items()
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    numeric = is_numeric(ticks)
    positions = [float(value) for value in ticks] if numeric else [*range(len(ticks))]
    if numeric and positions[0] > 0 and positions[-1] >= 20 * positions[0]:
        axis.set_xscale("log")
    curve = []
    place: dict[str, Any]
    for x, value in zip(positions, ticks, strict=True):
        point = points[value,]
        if point.accuracy is not None:
            curve.append((x, point.accuracy, point.std or 0.0))
            if point.missing:
                place = {"textcoords": "offset points", "color": FAILED, "fontsize": 7}
                axis.annotate(point.missing, (x, point.accuracy), (4, 4), **place)
            continue
        axis.axvline(x, color=FAILED, linestyle=":")
        place = {"transform": axis.get_xaxis_transform(), "rotation": 90}
        axis.text(x, 0.5, point.status, color=FAILED, ha="right", va="center", **place)
    if curve:
        place = {"color": BLUE, "marker": "o", "linestyle": "-" * numeric, "capsize": 3}
        axis.errorbar(*zip(*curve, strict=True), **place)
    axis.set_xticks(positions, short_labels(ticks), **SLANTED)
    axis.minorticks_off()
    axis.set(xlabel=name, ylabel="test accuracy")
    axis.yaxis.set_major_formatter(in_percent)
    axis.grid(alpha=0.3)
    return figure


def maps_figure(points: Points, values: dict[str, list[str]]) -> Figure:
    """Draw a heat map over the first two settings for each combination of the others."""
    (x_name, x_values), (y_name, y_values), *rest = values.items()
    panels = list(product(*(panel_values for _, panel_values in rest)))
    columns = ceil(sqrt(len(panels)))
    lines = ceil(len(panels) / columns)
    width = columns * (1.2 + max(0.62 * min(len(x_values), MOST_ANNOTATED), 2.0)) + 1
    height = lines * (1.0 + max(0.45 * min(len(y_values), MOST_ANNOTATED), 1.4)) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    known = [point.accuracy for point in points.values() if point.accuracy is not None]
    norm = Normalize(min(known, default=0), max(known, default=1))
    scores = [point.score for point in points.values() if point.score is not None]
    best = max(scores, default=None)
    for axis, panel in zip(axes, panels, strict=False):
        grid = [[points.get((x, y, *panel)) for x in x_values] for y in y_values]
        _draw_map(axis, grid, norm, best)
        labels = short_labels(x_values)
        crowded = len(labels) > 6 or max(map(len, labels)) > 7
        axis.set_xticks(range(len(labels)), labels, **(SLANTED if crowded else {}))
        axis.set_yticks(range(len(y_values)), short_labels(y_values))
        axis.set(xlabel=x_name, ylabel=y_name)
        settings = zip((name for name, _ in rest), panel, strict=True)
        axis.set_title("\n".join(f"{name}={value}" for name, value in settings), fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if known:
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label="test accuracy")
        bar.ax.yaxis.set_major_formatter(in_percent)
    return figure


def _draw_map(axis: Axes, grid: Grid, norm: Normalize, best: float | None) -> None:
    """Colour the cells, annotate them if there is room, and frame those with the ``best`` score."""
    accuracies = [
        [np.nan if point is None or point.accuracy is None else point.accuracy for point in line]
        for line in grid
    ]
    axis.imshow(accuracies, cmap=COLOURS, norm=norm, origin="lower", aspect="auto")
    axis.set_facecolor("0.9")  # shows through where a mean is missing
    annotated = max(len(grid), len(grid[0])) <= MOST_ANNOTATED
    for y, line in enumerate(grid):
        for x, point in enumerate(line):
            if point is None:
                continue
            if annotated:
                text, colour = _annotation(point, norm)
                axis.text(x, y, text, color=colour, ha="center", va="center", fontsize=7)
            if point.score is not None and point.score == best:
                corner = (x - 0.5, y - 0.5)
                axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=BEST, linewidth=2))


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


def _best(points: Points, names: Sequence[str], chosen: str | None) -> list[str]:
    known = {values: p.score for values, p in points.items() if p.score is not None}
    if not known:
        return []
    values = max(known, key=lambda key: known[key])
    settings = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
    point = points[values]
    missing = f" ({point.missing})" if point.missing else ""
    images = f"({OPTIMISTIC})" if chosen == BY_HELD_OUT else "on test images"
    return [f"best by {chosen}: {point.accuracy:.2%}{missing} {images} with {settings}"]

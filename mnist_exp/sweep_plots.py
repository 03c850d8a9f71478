"""The picture of a sweep: accuracy over the settings that were swept."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnist_exp.sweep import Row, count_by_status, swept_settings

SEED = "seed"
COLOURS = "viridis"
BEST = "tab:red"
MOST_ANNOTATED = 12  # values along an axis up to which every cell tells its number


@dataclass(frozen=True)
class Point:
    """The jobs that agree in all swept settings but the seed.

    Attributes
    ----------
    accuracy : float or None
        Mean over the jobs; None if none has one.
    std : float or None
        Sample standard deviation over several jobs, or over the folds of the only one.
    status : str
        Of the first job that has no accuracy, to stand where the number is missing.
    """

    accuracy: float | None
    std: float | None
    status: str


Points = dict[tuple[str, ...], Point]  # by the value of each axis


def draw(rows: Sequence[Row], path: Path, dpi: int = 120) -> None:
    """Draw accuracy over the swept settings.

    A curve for one setting, a heat map for two, a heat map for each combination of the others for
    more. Numeric settings become axes before the rest. Jobs that differ in nothing but ``seed``
    are averaged, unless the seed alone was swept. Without a swept setting nothing is drawn.

    Parameters
    ----------
    rows : sequence of Row
        The jobs.
    path : Path
        The PNG file to write.
    dpi : int
        Dots an inch.
    """
    swept = swept_settings(rows)
    names = [name for name in swept if name != SEED] or swept
    if not names:
        return
    values = {name: sorted_values(rows, name) for name in names}
    names.sort(key=lambda name: not is_numeric(values[name]))  # stable: numeric ones first
    points = gather_points(rows, names)
    draw_axes = curve_figure if len(names) == 1 else maps_figure
    figure = draw_axes(points, {name: values[name] for name in names})
    figure.suptitle(f"{len(rows)} jobs: {count_by_status(rows)}{_best(points, names)}", fontsize=10)
    figure.savefig(path, dpi=dpi)


def is_numeric(values: Sequence[str]) -> bool:
    """Whether all values are finite numbers."""
    try:
        return bool(np.isfinite([float(value) for value in values]).all())
    except ValueError:
        return False


def sorted_values(rows: Sequence[Row], name: str) -> list[str]:
    """Return the values of a setting, numbers by size, others in the order of the jobs."""
    in_job_order = sorted(rows, key=lambda row: (len(row.job), row.job))
    values = list(dict.fromkeys(row.overrides.get(name, "") for row in in_job_order))
    return sorted(values, key=float) if is_numeric(values) else values


def gather_points(rows: Sequence[Row], names: Sequence[str]) -> Points:
    """Average the jobs that agree in the settings ``names``."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.overrides.get(name, "") for name in names), []).append(row)
    points = {}
    for values, group in groups.items():
        accuracies = [row.accuracy for row in group if row.accuracy is not None]
        points[values] = Point(
            statistics.mean(accuracies) if accuracies else None,
            statistics.stdev(accuracies) if len(accuracies) > 1 else group[0].std,
            next((row.status for row in group if row.accuracy is None), ""),
        )
    return points


def curve_figure(points: Points, values: dict[str, list[str]]) -> Figure:
    """Draw accuracy over one setting; words instead of numbers stand side by side, unconnected."""
    ((name, ticks),) = values.items()
    numeric = is_numeric(ticks)
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    positions = [float(value) for value in ticks] if numeric else list(range(len(ticks)))
    known = [
        (x, point.accuracy, point.std or 0.0)
        for x, value in zip(positions, ticks, strict=True)
        if (point := points[(value,)]).accuracy is not None
    ]
    if known:
        axis.errorbar(*zip(*known, strict=True), marker="o", linestyle="-" * numeric, capsize=3)
    for x, value in zip(positions, ticks, strict=True):
        if points[(value,)].accuracy is None:
            axis.axvline(x, color=BEST, linestyle=":")
            axis.text(x, 0.5, points[(value,)].status, rotation=90, color=BEST, ha="right",
                      va="center", transform=axis.get_xaxis_transform())  # fmt: skip
    if numeric and positions[0] > 0 and positions[-1] >= 20 * positions[0]:
        axis.set_xscale("log")
        axis.minorticks_off()
    axis.set_xticks(positions, ticks, rotation=45 if len(ticks) > 8 else 0)
    axis.set(xlabel=name, ylabel="accuracy")
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
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
    colours = ScalarMappable(
        Normalize(min(known), max(known)) if known else Normalize(0, 1), COLOURS
    )
    best = max(known, default=None)
    for axis, panel in zip(axes, panels, strict=False):
        grid = [[points.get((x, y, *panel)) for x in x_values] for y in y_values]
        _draw_map(axis, grid, colours, best)
        axis.set_xticks(range(len(x_values)), x_values, rotation=45 if len(x_values) > 6 else 0)
        axis.set_yticks(range(len(y_values)), y_values)
        axis.set(xlabel=x_name, ylabel=y_name)
        settings = zip((name for name, _ in rest), panel, strict=True)
        axis.set_title("\n".join(f"{name}={value}" for name, value in settings), fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if known:
        bar = figure.colorbar(colours, ax=axes, label="accuracy")
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    return figure


def _draw_map(
    axis: Axes,
    grid: Sequence[Sequence[Point | None]],
    colours: ScalarMappable,
    best: float | None,
) -> None:
    """Colour the cells, number them if there is room, and frame the best."""
    accuracies = [
        [np.nan if point is None or point.accuracy is None else point.accuracy for point in line]
        for line in grid
    ]
    axis.imshow(accuracies, cmap=COLOURS, norm=colours.norm, origin="lower", aspect="auto")
    axis.set_facecolor("0.9")  # shows through where a number is missing
    annotated = max(len(grid), len(grid[0])) <= MOST_ANNOTATED
    for y, line in enumerate(grid):
        for x, point in enumerate(line):
            if point is None or not annotated:
                continue
            if point.accuracy is None:
                axis.text(x, y, point.status, ha="center", va="center", fontsize=7, color=BEST)
                continue
            text = f"{100 * point.accuracy:.2f}"
            if point.std is not None:
                text += f"\n±{100 * point.std:.2f}"
            bright = colours.norm(point.accuracy) > 0.6  # the upper end of the scale is yellow
            axis.text(x, y, text, ha="center", va="center", fontsize=7,
                      color="black" if bright else "white")  # fmt: skip
            if point.accuracy == best:
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=BEST,
                                         linewidth=2))  # fmt: skip


def _best(points: Points, names: Sequence[str]) -> str:
    known = [(p.accuracy, values) for values, p in points.items() if p.accuracy is not None]
    if not known:
        return ""
    accuracy, values = max(known)
    settings = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
    return f"\nbest {accuracy:.2%} with {settings}"

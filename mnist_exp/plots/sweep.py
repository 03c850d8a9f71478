"""Plot of a sweep: accuracy over the swept settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnist_exp.plots.figures import BLUE, Figure, write_picture
from mnist_exp.plots.search import scatter_figure
from mnist_exp.plots.sweep_figures import curve_figure, maps_figure
from mnist_exp.plots.sweep_points import (
    accuracy_label,
    best_words,
    gather_points,
    is_numeric,
    is_scattered,
    sorted_values,
    wrapped,
)
from mnist_exp.run.over_seeds import SEED, over_seeds
from mnist_exp.run.sweep_jobs import (
    Row,
    count_by_status,
    ranking_of,
    swept_settings,
)
from mnist_exp.run.text_table import shown_accuracy
from mnist_exp.wording import counted


def draw(rows: Sequence[Row], path: Path, dpi: int = 120) -> None:
    """Draw accuracy over the swept settings.

    One setting gives a curve, two a heat map, more a heat map for each combination of the others.
    A search, whose jobs fill no grid, gives a point for each job instead.
    Numeric settings become axes first. Jobs that differ only in ``seed`` are averaged, unless only
    the seed was swept; a mean over fewer jobs than requested is marked. Whatever the objective,
    accuracy is drawn, and the best by the objective is marked. Draws nothing if no setting was
    swept.

    Parameters
    ----------
    rows : sequence of Row
        The jobs.
    path : Path
        PNG file to write.
    dpi : int
        Dots per inch.
    """
    swept = swept_settings(rows)
    names = [name for name in swept if name != SEED] or swept
    if names:
        write_picture(path, sweep_figure(rows, names), dpi)


def sweep_figure(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Return the figure of `draw` over the settings ``names``."""
    values = {name: sorted_values(rows, name) for name in names}
    names = sorted(names, key=lambda name: not is_numeric(values[name]))  # stable: numbers first
    points = gather_points(rows, names)
    by_name = {name: values[name] for name in names}
    mark = "circled"
    if is_scattered(points, by_name):
        draw_axes = scatter_figure
    elif len(names) == 1:
        draw_axes = curve_figure
    else:
        draw_axes, mark = maps_figure, "framed"
    figure = draw_axes(points, by_name, accuracy_label(rows, points))
    title = [f"{counted(len(rows), 'job')}: {count_by_status(rows)}"]
    if names == [SEED]:
        title += _mean_over_seeds(rows, figure)
    else:
        words = best_words(points, names, ranking_of(rows))
        title += [f"{mark}: {words}"] * bool(words)
    fewer = sum(bool(point.missing) for point in points.values())
    if fewer:
        title.append(f"{fewer} of {len(points)} means lack a job (marked n)")
    figure.suptitle(wrapped("\n".join(title), figure.get_figwidth()), fontsize=10)
    return figure


def _mean_over_seeds(rows: Sequence[Row], figure: Figure) -> list[str]:
    """Draw mean and standard deviation over the seeds across a curve of them, and say so."""
    (group,) = over_seeds(rows, [])
    mean, std = group.over(lambda row: row.accuracy)
    if mean is None or std is None:
        return []
    axis = figure.axes[0]
    axis.axhline(mean, color=BLUE, alpha=0.5)
    axis.axhspan(mean - std, mean + std, color=BLUE, alpha=0.1)
    return [f"mean ± sample std over {group.n} seeds: {shown_accuracy(mean, std, ' ± ')} (band)"]

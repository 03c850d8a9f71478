"""Figure of a search, whose jobs share no values: a point for each job."""

from __future__ import annotations

from collections.abc import Iterable

from mnist_exp.plots.figures import Figure, Normalize, ScalarMappable, in_percent, plain_log
from mnist_exp.plots.sweep_figures import FAILED, RING
from mnist_exp.plots.sweep_points import (
    COLOURS,
    Points,
    axis_label,
    best_of,
    is_logarithmic,
    is_numeric,
    wrapped,
)


def scatter_figure(points: Points, values: dict[str, list[str]], label: str) -> Figure:
    """Draw a point for each job over its first two numeric settings, coloured by accuracy.

    The best point is circled.
    """
    names = list(values)
    x, y, *_ = (index for index, name in enumerate(names) if is_numeric(values[name]))
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axis = figure.subplots()
    known = {place: p for place, p in points.items() if p.accuracy is not None}
    accuracies = [float(p.accuracy) for p in known.values() if p.accuracy is not None]
    norm = Normalize(min(accuracies, default=0), max(accuracies, default=1))

    def at(places: Iterable[tuple[str, ...]], index: int) -> list[float]:
        return [float(place[index]) for place in places]

    if known:
        axis.scatter(at(known, x), at(known, y), c=accuracies, cmap=COLOURS, norm=norm)
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axis, label=wrapped(label, 3.5))
        bar.ax.yaxis.set_major_formatter(in_percent)
    others = [place for place in points if place not in known]
    if others:
        axis.scatter(at(others, x), at(others, y), c=FAILED, marker="x", label="without accuracy")
        axis.legend()
    best = best_of(points)
    if best:
        axis.scatter(at(best, x), at(best, y), **RING)
    for which, index in (("x", x), ("y", y)):
        if is_logarithmic(at(points, index)):
            plain_log(axis, which)
    axis.set(xlabel=axis_label(names[x], 4.0), ylabel=axis_label(names[y], 3.0))
    axis.grid(alpha=0.3)
    return figure

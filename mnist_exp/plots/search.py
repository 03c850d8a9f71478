"""Plot of a search, whose jobs share no values: a point for each job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from mnist_exp.plots.figures import Axes, Figure, Normalize, ScalarMappable, in_percent
from mnist_exp.plots.sweep import BEST, COLOURS, FAILED, Points, is_numeric

RATIO = 20  # of the largest to the smallest value from which an axis is logarithmic


def is_scattered(points: Points, values: dict[str, list[str]]) -> bool:
    """Whether jobs fill less than half of the grid of their settings, two of them numbers."""
    numeric = [name for name, texts in values.items() if is_numeric(texts)]
    return len(numeric) > 1 and 2 * len(points) < prod(map(len, values.values()))


def scatter_figure(points: Points, values: dict[str, list[str]]) -> Figure:
    """Draw a point for each job over its first two numeric settings, coloured by accuracy."""
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
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axis, label="accuracy")
        bar.ax.yaxis.set_major_formatter(in_percent)
    others = [place for place in points if place not in known]
    if others:
        axis.scatter(at(others, x), at(others, y), c=FAILED, marker="x", label="without accuracy")
        axis.legend()
    scores = {place: p.score for place, p in known.items() if p.score is not None}
    if scores:
        best = max(scores, key=lambda place: scores[place])
        spot = float(best[x]), float(best[y])
        axis.scatter(*spot, s=120, facecolors="none", edgecolors=BEST, linewidths=2)
    _scale(axis, "x", values[names[x]])
    _scale(axis, "y", values[names[y]])
    axis.set(xlabel=names[x], ylabel=names[y])
    axis.grid(alpha=0.3)
    return figure


def _scale(axis: Axes, which: str, texts: Sequence[str]) -> None:
    numbers = [float(text) for text in texts]
    if min(numbers) > 0 and max(numbers) >= RATIO * min(numbers):
        getattr(axis, f"set_{which}scale")("log")

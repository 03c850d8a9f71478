"""Plots of a device constraint: levels, updates rounded away, devices at bounds, pulses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mnist_exp.plots.figures import (
    BLUE,
    Axes,
    Figure,
    add_fold_legend,
    colours_of,
    in_percent,
    whole_ticks,
)
from mnist_exp.train.state import Row

SHARES = {
    "share_rounded_away": "updates rounded away",
    "share_at_min": "conductances at W_min",
    "share_at_max": "conductances at W_max",
}


PULSES = {"cost_pulses_mean": "mean of the devices", "cost_pulses_max": "most of a device"}


def levels_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the first fold's conductances at each level, after the first and the last epoch."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    history = histories[0]
    shown = [history[0]] if len(history) == 1 else [history[0], history[-1]]
    for axis, row in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        histogram = row["level_histogram"]
        levels, counts = histogram["levels"], histogram["counts"]
        axis.bar(levels, counts, width=0.9 * (levels[1] - levels[0]), color=BLUE)
        axis.set(xlabel="conductance", ylabel="devices", yscale="log")
        axis.set_title(f"after epoch {row['epoch']}", fontsize=10)
        axis.grid(alpha=0.3, axis="y")
    used = sum(count > 0 for count in history[-1]["level_histogram"]["counts"])
    levels = len(history[-1]["level_histogram"]["counts"])
    of_fold = " of fold 1" if len(histories) > 1 else ""
    title = f"Conductances{of_fold} on the level grid; {used} of {levels} levels used"
    figure.suptitle(title, fontsize=11)
    return figure


def shares_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the shares of updates rounded away and of devices at their bounds, over epochs."""
    figure, axes = _over_epochs(histories, SHARES)
    for axis, column in zip(axes, SHARES, strict=True):
        largest = max((row.get(column, 0.0) for history in histories for row in history), default=0)
        axis.set_ylim(0, 1.05 * largest or 0.01)  # an axis for zeros alone, too
        axis.yaxis.set_major_formatter(in_percent)
    return figure


def pulses_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the write pulses of a device since the start, mean and most, over epochs."""
    figure, axes = _over_epochs(histories, PULSES)
    for axis in axes:
        axis.set(ylabel="write pulses", ylim=(0, None))
    return figure


def _over_epochs(
    histories: Sequence[Sequence[Row]], columns: Mapping[str, str]
) -> tuple[Figure, list[Axes]]:
    """Draw columns over epochs, each on an axis with its meaning; a line a fold."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    colours = colours_of(len(histories)) if len(histories) > 1 else [BLUE]
    axes = [*figure.subplots(1, len(columns))]
    for axis, (column, meaning) in zip(axes, columns.items(), strict=True):
        for history, colour in zip(histories, colours, strict=True):
            points = [(row["epoch"], row[column]) for row in history if column in row]
            axis.plot(*zip(*points, strict=True), color=colour, marker=".", linewidth=0.8)
        axis.set_xlabel("epoch")
        axis.set_title(meaning, fontsize=10)
        whole_ticks(axis)
        axis.grid(alpha=0.3)
    if len(histories) > 1:
        add_fold_legend(figure, len(histories))
    return figure, axes

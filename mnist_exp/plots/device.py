"""Plots of a device constraint: levels in use, updates rounded away, devices at bounds."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_exp.plots.figures import Figure, PercentFormatter
from mnist_exp.train.state import Row

SHARES = {
    "share_rounded_away": "updates rounded away",
    "share_at_min": "conductances at W_min",
    "share_at_max": "conductances at W_max",
}


def levels_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the number of conductances at each level, after the first and the last epoch."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    history = histories[0]
    shown = [history[0]] if len(history) == 1 else [history[0], history[-1]]
    for axis, row in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        histogram = row["level_histogram"]
        levels, counts = histogram["levels"], histogram["counts"]
        axis.bar(levels, counts, width=0.9 * (levels[1] - levels[0]), color="tab:blue")
        axis.set(xlabel="conductance", ylabel="devices", yscale="log")
        axis.set_title(f"after epoch {row['epoch']}", fontsize=10)
        axis.grid(alpha=0.3, axis="y")
    used = sum(count > 0 for count in history[-1]["level_histogram"]["counts"])
    levels = len(history[-1]["level_histogram"]["counts"])
    figure.suptitle(f"Conductances on the level grid; {used} of {levels} levels used", fontsize=11)
    return figure


def shares_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the shares of updates rounded away and of devices at their bounds, over epochs."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axis, (column, meaning) in zip(figure.subplots(1, 3), SHARES.items(), strict=True):
        for history in histories:
            rows = [row for row in history if column in row]
            axis.plot(
                [row["epoch"] for row in rows],
                [row[column] for row in rows],
                color="tab:blue",
                marker=".",
                linewidth=0.8,
            )
        axis.set(xlabel="epoch", ylim=(0, None))
        axis.set_title(meaning, fontsize=10)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.grid(alpha=0.3)
    return figure

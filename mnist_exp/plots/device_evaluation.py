"""Plot of a test on devices: accuracy over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_exp.plots.figures import BLUE, ORANGE, Figure, in_percent


def over_time_figure(found: Mapping[str, Any]) -> Figure:
    """Draw mean test accuracy over time, with a band of one standard deviation.

    Parameters
    ----------
    found : mapping
        A record of ``device_evaluation.json``.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    seconds = [row["seconds"] for row in found["times"]]
    means = [row["accuracy"]["mean"] for row in found["times"]]
    spreads = [row["accuracy"]["std"] or 0.0 for row in found["times"]]
    over = f"{found['repetitions']} repetitions"
    if found["networks"] > 1:
        over += f" of {found['networks']} folds"
    low, high = ([m + s * d for m, d in zip(means, spreads, strict=True)] for s in (-1, 1))
    axis.fill_between(seconds, low, high, color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(seconds, means, color=BLUE, marker="o", label=f"mean and std of {over}")
    before = found["as_trained"]["mean"]
    axis.axhline(before, color=ORANGE, linestyle="--", label=f"as trained, {before:.2%}")
    axis.set(xscale="log", xlabel="time after programming", ylabel="test accuracy")
    axis.set_xticks(seconds, [row["time"] for row in found["times"]])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(in_percent)
    compensated = found["compensation"] != "none"
    title = "global drift compensation" if compensated else "no drift compensation"
    if found["reestimate_batch_norm"]:
        title += ", BatchNorm re-estimated"
    axis.set_title(f"{found['model']} on devices, {title}", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return figure

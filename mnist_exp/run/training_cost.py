"""What a training on devices cost: from the rows of its epochs into results.json, and in words.

The entries are those of `mnist_exp.device.cost.Cost.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PREFIX = "cost_"  # of the columns of an epoch's row
PURPOSES = ("forward", "backward", "evaluation", "transfer")  # of reads


def training_cost(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a training cost up to its last epoch; empty if it was not counted."""
    last = history[-1] if history else {}
    return {key.removeprefix(PREFIX): last[key] for key in last if key.startswith(PREFIX)}


def cost_lines(results: Mapping[str, Any]) -> list[str]:
    """Return what is printed about the cost, mean over folds; nothing if it was not counted."""
    mean = {name: found["mean"] for name, found in results.get("cost", {}).items()}
    if not mean:
        return []
    of_fold = " a fold" if len(results["folds"]) > 1 else ""
    reads = sum(mean.get(f"reads_{purpose}", 0) for purpose in PURPOSES)
    counts = (
        f"cost of training{of_fold}: {mean['pulses']:.4g} write pulses "
        f"({mean['pulses_mean']:.4g} a device, at most {mean['pulses_max']:.0f}; "
        f"{mean['share_written']:.1%} of devices written), {reads:.4g} reads, "
        f"{mean['conversions']:.4g} conversions"
    )
    if "endurance_used_max" in mean:
        used, most = mean["endurance_used_mean"], mean["endurance_used_max"]
        counts += f"; endurance used {used:.2%}, at most {most:.2%}"
    units = {"energy_estimate": "J", "time_estimate": "s"}
    estimates = [f"{mean[key]:.3g} {unit}" for key, unit in units.items() if key in mean]
    if not estimates:
        return [counts]
    return [counts, f"estimate by constraint.cost's constants: {', '.join(estimates)}"]

"""Time contenders in turn, each repeat in a process of its own, and print a table of ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What a contender's processes measured.

    Attributes
    ----------
    seconds : list of float
        An epoch, one value a repeat.
    peak_mib : float
        Largest resident memory of a process, data set included.
    """

    seconds: list[float]
    peak_mib: float


def time_in_turn(
    work: str, contenders: Sequence[str], repeats: int, cold: bool
) -> dict[str, Timing]:
    """Run every contender ``repeats`` times, one after the other within each repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = dict.fromkeys(contenders, 0.0)
    for _ in range(repeats):
        for name in contenders:
            command = [sys.executable, "-m", "tests.benchmarks", "--one", work, name]
            command += ["--cold"] * cold
            ended = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment(name)
            )
            if ended.returncode != 0:
                raise RuntimeError(f"{work}, {name}:\n{ended.stderr}")
            measured = json.loads(ended.stdout.splitlines()[-1])
            seconds[name].append(measured["seconds"])
            peaks[name] = max(peaks[name], measured["peak_mib"])
    return {name: Timing(seconds[name], peaks[name]) for name in contenders}


def environment(contender: str) -> dict[str, str]:
    """Return a contender's environment: ours have waiting threads asleep, as the program does."""
    ours = contender.startswith(("ours", "bare"))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ} if ours else dict(os.environ)


def table(work: str, timings: dict[str, Timing]) -> str:
    """Return the medians, each with its ratio to ours, as a Markdown table."""
    (first, *_) = timings
    reference = statistics.median(timings[first].seconds)
    lines = [
        f"| {work} | s an epoch (median) | min to max | ratio to ours | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        median = statistics.median(timing.seconds)
        low, high = min(timing.seconds), max(timing.seconds)
        lines.append(
            f"| {name} | {median:.2f} | {low:.2f} to {high:.2f} | {median / reference:.2f} "
            f"| {timing.peak_mib:,.0f} |"
        )
    return "\n".join(lines)

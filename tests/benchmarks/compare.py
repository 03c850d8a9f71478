"""Time contenders in turn, each repeat in a process of its own, and print a table of ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mnist_exp.cpu.openmp import wait_briefly

SIDE_BY_SIDE = "folds side by side"  # ends a contender's name
WITHOUT_KERNELS = "without kernels"  # likewise


@dataclass(frozen=True)
class Timing:
    """What a contender's processes measured.

    Attributes
    ----------
    seconds : list of float
        An epoch, one value a repeat; of folds side by side, the time in which they do one each,
        divided by their number.
    peak_mib : float
        Largest resident memory, data set included; summed over folds side by side.
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
            processes = start(work, name, cold)
            measured = [result_of(process, f"{work}, {name}") for process in processes]
            # that many epochs are done in the time of the slowest
            seconds[name].append(max(one["seconds"] for one in measured) / len(processes))
            peaks[name] = max(peaks[name], sum(one["peak_mib"] for one in measured))
    return {name: Timing(seconds[name], peaks[name]) for name in contenders}


def start(work: str, contender: str, cold: bool) -> list[subprocess.Popen[str]]:
    """Start a contender: one process with all threads, or folds side by side with one each."""
    side_by_side = contender.endswith(SIDE_BY_SIDE)
    command = [sys.executable, "-m", "tests.benchmarks", "--one", work, contender]
    command += ["--cold"] * cold
    environment = dict(os.environ)
    if contender.startswith(("ours", "bare")):  # as in the program
        wait_briefly(environment)
    if contender.endswith(WITHOUT_KERNELS):
        environment["MNIST_EXP_KERNELS"] = "torch"
    if side_by_side:
        environment["OMP_NUM_THREADS"] = "1"
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
        for _ in range(torch.get_num_threads() if side_by_side else 1)
    ]


def result_of(process: subprocess.Popen[str], what: str) -> dict[str, float]:
    """Wait for a process and return what it measured."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{what}:\n{errors}")
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


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

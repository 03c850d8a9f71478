"""Time contenders in turn, each repeat in its own process, and format a table of ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mnist_exp.cpu.kernels import description, library
from mnist_exp.cpu.openmp import wait_briefly

SIDE_BY_SIDE = "folds side by side"  # suffix of a contender's name
KERNELS = ", kernels: "  # suffix of a name, followed by the build


@dataclass(frozen=True)
class Timing:
    """Measurements of a contender's processes.

    Attributes
    ----------
    seconds : list of float
        Per epoch, one value per repeat; for parallel folds, the time for an epoch of each divided
        by their number.
    peak_mib : float
        Largest resident memory, data set included; summed over parallel folds.
    """

    seconds: list[float]
    peak_mib: float


def with_builds(contenders: Sequence[str]) -> list[str]:
    """Return contenders, with variants of the first for each slower build and for torch."""
    slower = [*list(library.builds())[1:], "torch"] if library.builds() else []
    forced = [f"ours{KERNELS}{build}" for build in slower]
    first, *others = contenders
    return [first, *forced, *others]


def without_build(contender: str) -> str:
    """Return a contender's name without the suffix of `with_builds`."""
    return contender.partition(KERNELS)[0]


def time_in_turn(
    work: str, contenders: Sequence[str], repeats: int, cold: bool, enough: float
) -> dict[str, Timing]:
    """Run every contender ``repeats`` times, one after the other within each repeat.

    After the first, a repeat starts only if, at the average duration so far, it would end within
    ``enough`` seconds of the start.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = dict.fromkeys(contenders, 0.0)
    began = time.perf_counter()
    for done in range(repeats):
        spent = time.perf_counter() - began
        if done and spent * (done + 1) / done > enough:
            break
        for name in contenders:
            processes = start(work, name, cold)
            measured = [result_of(process, f"{work}, {name}") for process in processes]
            # parallel folds: one epoch each in the time of the slowest
            seconds[name].append(max(one["seconds"] for one in measured) / len(processes))
            peaks[name] = max(peaks[name], sum(one["peak_mib"] for one in measured))
    return {name: Timing(seconds[name], peaks[name]) for name in contenders}


def start(work: str, contender: str, cold: bool) -> list[subprocess.Popen[str]]:
    """Start a contender: one process with all threads, or parallel folds with one each."""
    side_by_side = contender.endswith(SIDE_BY_SIDE)
    command = [sys.executable, "-m", "tests.benchmarks", "--one", work, contender]
    command += ["--cold"] * cold
    environment = dict(os.environ)
    if contender.startswith(("ours", "bare")):  # as mnist_exp does
        wait_briefly(environment)
    if KERNELS in contender:
        environment["MNIST_EXP_KERNELS"] = contender.rpartition(KERNELS)[2]
    if side_by_side:
        environment["OMP_NUM_THREADS"] = "1"
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
        for _ in range(torch.get_num_threads() if side_by_side else 1)
    ]


def result_of(process: subprocess.Popen[str], what: str) -> dict[str, float]:
    """Wait for a process and return its measurements."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{what}:\n{errors}")
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def table(work: str, timings: dict[str, Timing], images: int) -> str:
    """Return medians and their ratios to ours as a Markdown table.

    ``images`` is the size of a benchmark epoch; seconds are scaled to 60,000 images.
    """
    (first, *_) = timings
    reference = statistics.median(timings[first].seconds)
    repeats = len(timings[first].seconds)
    scaled = "" if images == 60_000 else f", from {images:,} images"
    head = f"{work}, {description(torch.device('cpu'))}, {repeats} repeat(s){scaled}"
    lines = [
        f"| {head} | s per epoch (median) | min to max | ratio to ours | peak MiB |",
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

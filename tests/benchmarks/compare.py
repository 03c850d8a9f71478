"""Time contenders in turn, each repeat in a process of its own, and print a table of ratios."""

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

SIDE_BY_SIDE = "folds side by side"  # ends a contender's name
KERNELS = ", kernels: "  # before the build that does the work, at the end of a name


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


def with_builds(contenders: Sequence[str]) -> list[str]:
    """Return contenders, "ours" followed by itself with each slower build and with torch."""
    slower = [*list(library.builds())[1:], "torch"] if library.builds() else []
    forced = [f"ours{KERNELS}{build}" for build in slower]
    first, *others = contenders
    return [first, *forced, *others]


def without_build(contender: str) -> str:
    """Return the name of what a contender of `with_builds` trains."""
    return contender.partition(KERNELS)[0]


def time_in_turn(
    work: str, contenders: Sequence[str], repeats: int, cold: bool, enough: float
) -> dict[str, Timing]:
    """Run every contender ``repeats`` times, one after the other within each repeat.

    No further repeat starts that would end more than ``enough`` seconds after the first began, if
    it took as long as the longest so far.
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
    """Wait for a process and return what it measured."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{what}:\n{errors}")
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def table(work: str, timings: dict[str, Timing], images: int) -> str:
    """Return the medians, each with its ratio to ours, as a Markdown table.

    ``images`` is how many an epoch of the benchmark had; the seconds are those of 60,000.
    """
    (first, *_) = timings
    reference = statistics.median(timings[first].seconds)
    repeats = len(timings[first].seconds)
    scaled = "" if images == 60_000 else f", from {images:,} images"
    head = f"{work}, {description(torch.device('cpu'))}, {repeats} repeat(s){scaled}"
    lines = [
        f"| {head} | s an epoch (median) | min to max | ratio to ours | peak MiB |",
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

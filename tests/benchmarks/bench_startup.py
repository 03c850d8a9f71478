"""Seconds from the start of the process to the first optimizer step.

    python -m tests.benchmarks.bench_startup [--repeats 5]

The baseline is what no run can do without: ``import torch``, ``import hydra`` and the making of a
first ``torch.optim.SGD``, which imports torch.compile's machinery. Contenders run in turn, each in
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from mnist_exp.cpu.features import cpu_name
from mnist_exp.files.atomic import write_atomic
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import TrainState

BASELINE = "import torch, hydra; torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)"
RUN = ("-m", "mnist_exp", "+callbacks.first._target_=tests.benchmarks.bench_startup.ExitAtFirst")
COMMANDS = {
    "baseline: torch, hydra, a first SGD": ("-c", BASELINE),
    "default (cnn21k, Muon)": RUN,
    "cv=holdout": (*RUN, "cv=holdout"),
    "model=mlp (Adam)": (*RUN, "model=mlp"),
    "model=mlp100 (SGD, scikit-learn's folds)": (*RUN, "model=mlp100", "cv.n_jobs=1"),
    "model=mlp constraint=memristor": (*RUN, "model=mlp", "constraint=memristor"),
}
GOAL = 0.5  # seconds above the baseline


class ExitAtFirst(Callback):
    """End the process after the first optimizer step; print the modules that were imported."""

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Print a line of JSON and exit at once."""
        print(json.dumps(sorted(sys.modules)), flush=True)
        os._exit(0)


def seconds_of(command: tuple[str, ...]) -> tuple[float, float]:
    """Run Python and return its seconds of CPU and of the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as directory:
        place = [f"hydra.run.dir={directory}/run"] if command[0] == "-m" else []
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, *command, *place], check=False, capture_output=True, text=True
        )
        wall = time.perf_counter() - began
    if ended.returncode != 0:
        raise RuntimeError(ended.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def table(measured: dict[str, list[tuple[float, float]]]) -> str:
    """Return the medians of CPU and clock, and what is above the baseline, in Markdown."""
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in measured.items()
    }
    (base_cpu, base_wall), *_ = medians.values()
    repeats = len(next(iter(measured.values())))
    lines = [
        f"| to the first optimizer step, {repeats} repeat(s) | CPU s | wall s "
        f"| above the baseline: CPU s (goal: {GOAL} at most) | wall s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {cpu:.2f} | {wall:.2f} | {cpu - base_cpu:+.2f} | {wall - base_wall:+.2f} |"
        for name, (cpu, wall) in medians.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Time every command in turn and write the table to outputs/bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            measured[name].append(seconds_of(command))
    result = table(measured)
    print(result)
    write_atomic(Path("outputs/bench/startup.md"), (result + "\n").encode())


if __name__ == "__main__":
    main()

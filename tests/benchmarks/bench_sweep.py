"""CPU seconds a job of a sweep of many short jobs, and what they are spent on.

    python -m tests.benchmarks.bench_sweep [--jobs 64 1000]

The jobs, on the basic launcher, are ``model=mlp cv=none data.subset=500 training.epochs=1`` over
seeds and learning rates. CPU seconds, not those of a clock: others on the machine disturb them
little. With several sizes, equal numbers a job say that the cost is linear in the number of jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mnist_exp.cpu.features import cpu_name
from mnist_exp.cpu.kernels.library import description
from mnist_exp.files.atomic import write_atomic

JOBS = 64
RATES = 8  # learning rates; the other factor of the grid are seeds
TRAINING = ("model=mlp", "cv=none", "data.subset=500", "training.epochs=1")
# What a job costs: the rows of the table.
HYDRA, TRAIN, OURS, START = "Hydra", "training and testing", "ours", "start and end"


class Sections:
    """CPU seconds of this process by section; those of an inner one do not count for the outer."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.current, self.since = START, 0.0  # from the start of the process

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count a block for ``name``."""
        outer = self.switch(name)
        try:
            yield
        finally:
            self.switch(outer)

    def switch(self, name: str) -> str:
        """Count from now on for ``name``, and return for what was counted so far."""
        now, before = time.process_time(), self.current
        self.spent[before] += now - self.since
        self.current, self.since = name, now
        return before

    def watch(self, owner: Any, function: str, name: str) -> None:
        """Count every call of ``owner.function`` for ``name``."""
        called: Callable[..., Any] = getattr(owner, function)

        def call(*arguments: Any, **keywords: Any) -> Any:
            with self.section(name):
                return called(*arguments, **keywords)

        setattr(owner, function, call)


def run_sweep(arguments: list[str]) -> None:
    """Run a sweep in this process and print the seconds of each section as a line of JSON."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins import basic_launcher

    from mnist_exp.app import hydra_app
    from mnist_exp.app.sweep import start
    from mnist_exp.callbacks.recorder import Recorder
    from mnist_exp.experiment import fold

    sections = Sections()
    watched: list[tuple[Any, str, str]] = [
        (ConfigLoaderImpl, "load_sweep_config", HYDRA),
        (basic_launcher, "run_job", HYDRA),  # writes .hydra/, starts logging
        (start, "asked_jobs", OURS),
        (hydra_app, "run_sweep_job", OURS),
        (fold, "train", TRAIN),
        (Recorder, "on_train_start", OURS),
        (Recorder, "on_epoch_end", OURS),
        (fold.Fold, "test", TRAIN),
        (fold, "export_weights", OURS),
    ]
    for owner, function, name in watched:
        sections.watch(owner, function, name)
    sys.argv = ["mnist_exp", "--multirun", *arguments]
    try:
        hydra_app.main()
    finally:
        sections.switch(START)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB here
        print(json.dumps({**sections.spent, "peak": peak_mib}))


def grid(jobs: int) -> list[str]:
    """Return the overrides of a grid of ``jobs`` jobs, a multiple of `RATES`."""
    seeds = ",".join(map(str, range(jobs // RATES)))
    rates = ",".join(f"{0.0005 * (1 + rate):g}" for rate in range(RATES))
    return [*TRAINING, f"seed={seeds}", f"optimizer.lr={rates}"]


def measured(jobs: int, overrides: list[str]) -> dict[str, float]:
    """Return the CPU seconds a job of a sweep in a process of its own, and its peak in MiB."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = [*grid(jobs), f"hydra.sweep.dir={directory}/sweep", *overrides]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "tests.benchmarks.bench_sweep", "--run", *arguments]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != 0:
        sys.exit(ended.stdout[-2000:] + ended.stderr[-2000:])
    spent: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    peak = spent.pop("peak")
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # processes that the sweep started are in the total only
    spent[OURS] += total - sum(spent.values())
    found = {name: seconds / jobs for name, seconds in {**spent, "in all": total}.items()}
    return found | {"peak": peak}


def main() -> None:
    """Measure sweeps of the given sizes and write their table to outputs/bench."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[JOBS], help="jobs of each sweep")
    parser.add_argument("overrides", nargs="*", help="more settings of all jobs")
    options = parser.parse_args()
    if wrong := [jobs for jobs in options.jobs if jobs < RATES or jobs % RATES]:
        parser.error(f"--jobs {wrong[0]}: allowed are multiples of {RATES}")
    print(f"{cpu_name()}, kernels: {description(torch.device('cpu'))}")
    lines = [
        "| jobs | CPU-s a job | Hydra | training and testing | ours | start and end | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for jobs in options.jobs:
        spent = measured(jobs, options.overrides)
        cells = [f"{spent[name]:.3f}" for name in ("in all", HYDRA, TRAIN, OURS, START)]
        lines.append(f"| {jobs} | {' | '.join(cells)} | {spent['peak']:.0f} |")
    print("\n".join(lines))
    write_atomic(Path("outputs/bench/sweep.md"), ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_sweep(sys.argv[2:])
    else:
        main()

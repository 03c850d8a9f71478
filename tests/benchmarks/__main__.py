"""``python -m tests.benchmarks [WORK ...]``: ours and the baselines, timed in one run.

Every contender trains one epoch on all 60,000 images after a first epoch that is not timed
(``--cold`` leaves that out), with the same number of threads. Baselines whose package is not
installed (the extra ``bench``) are named and left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from mnist_exp.hardware import cpu_name
from tests.benchmarks import loops
from tests.benchmarks.compare import table, time_in_turn

PLAIN = ("optimizer.momentum=0", "optimizer.lr=0.1")
WORKS: dict[str, dict[str, Callable[[], loops.Epoch]]] = {
    "mlp100": {
        "ours": partial(loops.ours, "model=mlp100"),
        "bare loop": partial(loops.bare, "model=mlp100"),
        "usual script": partial(loops.usual_script, "model=mlp100"),
        "skorch": partial(loops.skorch, "model=mlp100"),
        "lightning": partial(loops.lightning, "model=mlp100"),
    },
}


def run_one(work: str, contender: str, warm: bool) -> None:
    """Time one epoch in this process and print the figures as a line of JSON."""
    epoch = WORKS[work][contender]()
    if warm:
        epoch()
    started = time.perf_counter()
    epoch()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB here
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


def main() -> int:
    """Time the works asked for and write the tables to outputs/bench."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("works", nargs="*", choices=[[], *WORKS], help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "CONTENDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(*options.one, warm=True)
        return 0
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for work in options.works or WORKS:
        there = [
            name for name in WORKS[work] if name not in ("skorch", "lightning") or find_spec(name)
        ]
        for name in set(WORKS[work]) - set(there):
            print(f"{work}: {name} is left out: not installed (pip install '.[bench]')")
        result = table(work, time_in_turn(work, there, options.repeats))
        print(result, flush=True)
        directory = Path("outputs/bench")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{work}.md").write_text(result + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

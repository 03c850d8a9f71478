"""``python -m tests.benchmarks [WORK ...]``: time this package against baselines in one run.

Every contender trains on the same images with the same number of threads, after an untimed first
epoch (``--cold`` times that one instead); "ours" also runs with each build of the kernels that runs
here. Slow works get fewer images (``IMAGES``); times are scaled to 60,000. No repeat starts that
would exceed a work's ``--minutes``, except the first. Baselines whose package is missing (extra
``bench``) are reported and skipped.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from mnist_exp.cpu.features import cpu_name
from mnist_exp.files.atomic import write_atomic
from tests.benchmarks import baselines, constraint_scripts, loops
from tests.benchmarks.compare import (
    SIDE_BY_SIDE,
    table,
    time_in_turn,
    with_builds,
    without_build,
)

BF16 = "training.precision=bf16"
PUBLISHED = ("model=mlp100", "constraint=published")
# without features that the script lacks
MEMRISTOR = (
    *("model=mlp100", "constraint=memristor"),
    *("scheduler=constant", "training.label_smoothing=0"),
)
UNCONSTRAINED = ("model=mlp100", "optimizer=sgd", "optimizer.lr=0.5")


def under_constraint(
    overrides: Sequence[str], script: Callable[[], loops.Epoch]
) -> dict[str, Callable[[], loops.Epoch]]:
    """Return the contenders for a work under device constraints."""
    return {
        "ours": partial(loops.ours, *overrides),
        f"ours, {SIDE_BY_SIDE}": partial(loops.ours, *overrides),
        "ours, bf16": partial(loops.ours, *overrides, BF16),
        "bare loop": partial(loops.bare, *overrides),
        "script": script,
        "ours, no constraint": partial(loops.ours, *UNCONSTRAINED),
    }


WORKS: dict[str, dict[str, Callable[[], loops.Epoch]]] = {
    "mlp100": {
        "ours": partial(loops.ours, "model=mlp100", "training.gradient_norm=false"),
        "bare loop": partial(loops.bare, "model=mlp100"),
        "usual script": partial(loops.usual_script, "model=mlp100"),
        "skorch": partial(loops.skorch, "model=mlp100"),
        "lightning": partial(loops.lightning, "model=mlp100"),
    },
    "mlp100_published": under_constraint(PUBLISHED, constraint_scripts.published_script),
    "mlp100_memristor": under_constraint(MEMRISTOR, constraint_scripts.memristor_script),
    "cnn21k": {
        "ours": partial(loops.ours, "model=cnn21k"),
        "bare loop, bf16": partial(loops.bare, "model=cnn21k", BF16),
        "bare loop, bf16, torch.compile": partial(loops.bare, "model=cnn21k", BF16, compiled=True),
        "ours, no augmentation": partial(loops.ours, "model=cnn21k", "augmentation=none"),
        "ours, bf16": partial(loops.ours, "model=cnn21k", BF16),
        "ours, published settings": partial(loops.ours, "experiment=cnn21k_published"),
        "published script (PIL)": baselines.published_cnn21k,
        "usual script (tensors)": partial(loops.usual_script, "experiment=cnn21k_published"),
        "skorch": partial(loops.skorch, "experiment=cnn21k_published"),
        "lightning": partial(loops.lightning, "experiment=cnn21k_published"),
    },
    "cnn20k": {
        "ours": partial(loops.ours, "model=cnn20k"),
        "bare loop": partial(loops.bare, "model=cnn20k"),
        "bare loop, torch.compile": partial(loops.bare, "model=cnn20k", compiled=True),
        "ours, no augmentation": partial(loops.ours, "model=cnn20k", "augmentation=none"),
        "ours, fp32": partial(loops.ours, "model=cnn20k", "training.precision=fp32"),
        "published script (PIL, 2 workers)": baselines.published_cnn20k,
    },
}
# Works with a table of their own.
OTHERS = ("gradients", "startup", "sweep", "devices", "aihwkit")
LONG = ("devices", "aihwkit")  # run only where they are named
ALL_WORKS = 14.0  # minutes, for a run of all works
# Images per epoch of works whose slowest contenders take minutes for all 60,000.
IMAGES = {"cnn21k": 3_000, "cnn20k": 1_500}
SECONDS = 1.0  # a process times epochs for at least this long and reports the median
EXTRA = ("skorch", "lightning")  # packages of the extra ``bench``
COMPILED = "torch.compile"  # compiles for minutes, and an epoch of these sizes is no faster


def run_one(work: str, contender: str, cold: bool) -> None:
    """Time epochs in this process and print the result as a line of JSON."""
    loops.use_images(IMAGES.get(work, loops.ALL))
    epoch = WORKS[work][without_build(contender)]()
    if not cold:
        epoch()
    durations: list[float] = []
    while not durations or (sum(durations) < SECONDS and not cold):  # short epochs: several
        started = time.perf_counter()
        epoch()
        durations.append(time.perf_counter() - started)
    seconds = statistics.median(durations) * loops.ALL / loops.count()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB here
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


def main() -> int:
    """Time the given works and write their tables to outputs/bench."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    names = [*WORKS, *OTHERS]
    default = [name for name in names if name not in LONG]
    parser.add_argument(
        "works", nargs="*", help=f"of {', '.join(names)}; default: all but {' and '.join(LONG)}"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=2.5, help="per work; default: 2.5")
    parser.add_argument("--cold", action="store_true", help="time the first epoch")
    parser.add_argument("--jobs", nargs="+", help="of each sweep of the work sweep; default: 64")
    parser.add_argument("--compiled", action="store_true", help=f"time {COMPILED} too")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "CONTENDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work, contender = options.one
        run_one(work, contender, cold=options.cold)
        return 0
    unknown = set(options.works) - set(names)
    if unknown:
        parser.error(f"WHAT={' '.join(sorted(unknown))}: allowed are {', '.join(names)}")
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    minutes = options.minutes if options.works else min(options.minutes, ALL_WORKS / len(default))
    for work in options.works or default:
        if work in OTHERS:
            sizes = ["--jobs", *options.jobs] if work == "sweep" and options.jobs else []
            command = [sys.executable, "-m", f"tests.benchmarks.bench_{work}", *sizes]
            subprocess.run(command, check=True)
            continue
        wanted = [name for name in WORKS[work] if options.compiled or COMPILED not in name]
        there = [name for name in wanted if name not in EXTRA or find_spec(name)]
        for name in set(wanted).difference(there):
            print(f"{work}: {name} is left out: not installed (pip install '.[bench]')")
        there = with_builds(there)
        timings = time_in_turn(work, there, options.repeats, options.cold, minutes * 60)
        result = table(work, timings, IMAGES.get(work, loops.ALL))
        print(result, flush=True)
        write_atomic(Path("outputs/bench") / f"{work}.md", (result + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

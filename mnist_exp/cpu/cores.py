"""How many CPU cores this process may use; without torch, which takes seconds to import."""

from __future__ import annotations

import os
from collections.abc import Mapping


def cores(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many CPU cores this process may use: the machine's, or what an engine gave it."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(here or 1, given_cores(environment) or here or 1)


def given_cores(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return how many CPU cores an engine gave this process, bound to them or not; None if any.

    Slurm says so. `submitit_local` starts all jobs of a sweep at once, so each has one.
    """
    if environment.get("SUBMITIT_EXECUTOR") == "local":
        return 1
    names = "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"  # the first only if it was asked for
    return next(filter(None, (_number(environment, name) for name in names)), None)


def threads_at_most(environment: Mapping[str, str] = os.environ) -> int:
    """Return `cores`, or ``OMP_NUM_THREADS`` if that is fewer, as in workers of joblib and Ray."""
    there = cores(environment)
    return min(there, _number(environment, "OMP_NUM_THREADS") or there)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """Return the first number of a variable, as in ``OMP_NUM_THREADS=4,2``; None without one."""
    text = environment.get(name, "").partition(",")[0]
    return int(text) or None if text.isascii() and text.isdigit() else None

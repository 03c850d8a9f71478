"""The cores that a job may use are those its engine gave it."""

from __future__ import annotations

import os

import pytest

from mnist_exp.cpu.cores import cores, given_cores, threads_at_most

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_CPUS_ON_NODE": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "8"}, 2),
        ({"SUBMITIT_EXECUTOR": "local"}, 1),
        ({"SUBMITIT_EXECUTOR": "slurm", "SLURM_CPUS_PER_TASK": "x"}, None),
    ],
)
def test_an_engine_says_how_many_cores_it_gives(
    environment: dict[str, str], expected: int | None
) -> None:
    assert given_cores(environment) == expected
    assert cores(environment) == min(HERE or 1, expected or HERE or 1)


def test_a_worker_with_one_thread_has_no_room_for_folds() -> None:
    assert threads_at_most({}) == HERE
    assert threads_at_most({"OMP_NUM_THREADS": "1"}) == 1
    assert threads_at_most({"OMP_NUM_THREADS": "1,4"}) == 1
    assert threads_at_most({"OMP_NUM_THREADS": "0"}) == HERE

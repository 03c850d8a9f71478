"""A run builds each part, reads each checkpoint and trains each fold once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnist_exp.experiment import build, fold
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run import checkpoints
from mnist_exp.run.lock import LOCK_FILE
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import KFOLD, composed


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Name and first argument of each call that builds a part, reads a checkpoint or trains."""
    made: list[tuple[str, Any]] = []

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def watched(first: Any, *arguments: Any, **more: Any) -> Any:
            made.append((name, first))
            return function(first, *arguments, **more)

        monkeypatch.setattr(owner, name, watched)

    for name in ("build_dataset", "build_splits", "build_images", "build_recipe", "build_state"):
        watch(build, name)
    watch(checkpoints, "load_checkpoint")
    watch(fold, "train")
    return made


def count(calls: list[tuple[str, Any]]) -> dict[str, int]:
    names = [name for name, _ in calls]
    return {name: names.count(name) for name in names}


ONCE = dict.fromkeys(("build_dataset", "build_splits", "build_images", "build_recipe"), 1)


@pytest.mark.slow
def test_folds_share_the_parts_of_a_run_and_the_first_trains_with_what_was_checked(
    tmp_path: Path, calls: list[tuple[str, Any]]
) -> None:
    run_experiment(composed(*KFOLD, "plots.enabled=true", "plots.num_samples=1"), tmp_path)
    # the first step is tried on a network built for that
    assert count(calls) == {**ONCE, "build_state": 3, "train": 2}


def test_a_run_that_goes_on_reads_a_checkpoint_once_and_trains_what_is_left(
    tmp_path: Path, calls: list[tuple[str, Any]]
) -> None:
    with pytest.raises(Interrupted):
        run_experiment(composed(*KFOLD), tmp_path, StopAfter(16))  # in the second fold
    calls.clear()
    run_experiment(composed(*KFOLD), tmp_path)
    assert count(calls) == {**ONCE, "build_state": 2, "load_checkpoint": 2, "train": 1}
    calls.clear()
    run_experiment(composed(*KFOLD), tmp_path)
    assert count(calls) == {**ONCE, "build_state": 2, "load_checkpoint": 2}


def test_a_process_trains_several_folds_and_the_run_reads_what_came_of_them(
    tmp_path: Path, calls: list[tuple[str, Any]]
) -> None:
    run_experiment(composed(*KFOLD, "cv.n_splits=3", "cv.n_jobs=2"), tmp_path)
    assert count(calls) == {**ONCE, "build_state": 4, "load_checkpoint": 3}
    locks = [tmp_path / "checkpoints" / f"fold_{number}" / LOCK_FILE for number in (1, 2, 3)]
    first, second, third = (lock.read_text().strip() for lock in locks)
    assert first == third != second

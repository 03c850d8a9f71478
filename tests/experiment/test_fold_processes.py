"""Parallel folds end when signalled, whichever of the processes is stopped or killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_exp.experiment import fold_processes
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from tests.helpers.fault_injection import (
    SMALL,
    exit_code,
    few_images,
    start_command,
    status,
    wait_until,
)

ARGUMENTS = ("model=mlp100", "cv.n_splits=2", "cv.n_jobs=2", *SMALL[1:], "hydra.run.dir=run")


def be_impatient() -> None:
    os.setsid()  # its own process group
    fold_processes.STOP_SECONDS = 1.0
    fold_processes.KILL_SECONDS = 0.5


@pytest.fixture
def run(tmp_path: Path) -> Iterator[int]:
    """Id of a run's process; its two folds train until stopped."""
    arguments = (*few_images(), *ARGUMENTS, "training.epochs=100000")
    log = tmp_path / "log"
    process = start_command(*arguments, cwd=tmp_path, log=log, prepare=be_impatient)
    folds = [checkpoints(tmp_path, fold) for fold in (1, 2)]
    wait_until(lambda: all(any(fold.glob("epoch*")) for fold in folds), process)
    yield process
    for number in (signal.SIGKILL, signal.SIGCONT):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, number)


def checkpoints(tmp_path: Path, fold: int) -> Path:
    return tmp_path / "run" / "checkpoints" / f"fold_{fold}"


def fold_process(tmp_path: Path, fold: int) -> int:
    holder = (checkpoints(tmp_path, fold) / LOCK_FILE).read_text()[:200]
    return int(holder.split()[1])


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def has_ended(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # a zombie: not reaped yet


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["fold", "server", "both"])
def test_a_run_ends_by_a_signal_though_a_process_of_its_folds_is_stopped(
    tmp_path: Path, run: int, stopped: str
) -> None:
    fold = fold_process(tmp_path, 2)
    server = parent(fold)
    assert server != run
    for process in {"fold": [fold], "server": [server], "both": [fold, server]}[stopped]:
        os.kill(process, signal.SIGSTOP)
    os.kill(run, signal.SIGTERM)
    assert exit_code(run) == 143
    assert status(tmp_path / "run") == ("interrupted", "stopped by SIGTERM")
    log = (tmp_path / "log").read_text()
    assert "folds that did not stop in 1 s: killed" in log
    assert "continue with: python -m mnist_exp resume=" in log
    assert "Traceback" not in log
    for number in (1, 2):
        DirectoryLock(checkpoints(tmp_path, number), wait=10).release()  # free: its process is gone


@pytest.mark.slow
def test_the_folds_end_when_a_run_that_was_stopped_is_killed(tmp_path: Path, run: int) -> None:
    server = parent(fold_process(tmp_path, 1))
    os.kill(run, signal.SIGSTOP)
    os.kill(run, signal.SIGKILL)
    exit_code(run)
    for number in (1, 2):
        DirectoryLock(checkpoints(tmp_path, number), wait=10).release()
    for _ in range(1000):
        if has_ended(server):
            return
        time.sleep(0.01)
    raise AssertionError("the server goes on")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_the_whole_group_ends_all_with_checkpoints(
    tmp_path: Path, run: int, number: int
) -> None:
    os.killpg(run, number)
    assert exit_code(run) == 128 + number
    assert status(tmp_path / "run")[0] == "interrupted"
    log = (tmp_path / "log").read_text()
    assert ("killed" in log, "Traceback" in log, "exit code" in log) == (False, False, False)
    for fold in (1, 2):
        DirectoryLock(checkpoints(tmp_path, fold), wait=0).release()  # folds end before the run


@pytest.mark.slow
def test_a_killed_server_fails_the_run_and_ends_its_folds(tmp_path: Path, run: int) -> None:
    os.kill(parent(fold_process(tmp_path, 1)), signal.SIGKILL)
    assert exit_code(run) == 2
    assert "the process of a fold ended" in status(tmp_path / "run")[1]
    for fold in (1, 2):
        DirectoryLock(checkpoints(tmp_path, fold), wait=10).release()

"""A sweep's jobs in other processes stop with the process that started the sweep."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from pathlib import Path

import pytest

from mnist_exp.app.sweep import launching
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock, Holder, last_holder
from tests.helpers.fault_injection import exit_code, start

HERE, ELSEWHERE = socket.gethostname(), f"not-{socket.gethostname()}"


def test_a_job_of_a_sweep_that_has_ended_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(str(Holder(os.getppid(), HERE)))
    with (
        pytest.raises(Interrupted, match="SIGTERM"),
        launching.tied_to_launcher(tmp_path, StopSignals()),
    ):
        raise AssertionError("the job began")


@pytest.mark.parametrize(
    ("host", "executor"), [(ELSEWHERE, None), (HERE, "slurm")], ids=["another host", "in Slurm"]
)
def test_a_job_that_its_launcher_cannot_hold_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, executor: str | None
) -> None:
    if executor is not None:
        monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    (tmp_path / LOCK_FILE).write_text(str(Holder(os.getppid(), host)))
    signals = StopSignals()
    with launching.tied_to_launcher(tmp_path, signals):
        signals.check()


def test_a_job_stops_when_its_sweep_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "POLL_SECONDS", 0.01)

    def job() -> None:  # a process of its own, as the holder does not watch itself
        wait_for("held")
        signals = StopSignals()
        with launching.tied_to_launcher(tmp_path, signals):
            (tmp_path / "begun").touch()
            while signals.received is None:
                time.sleep(0.01)
        signals.check()

    def wait_for(name: str) -> None:
        while not (tmp_path / name).exists():
            time.sleep(0.01)

    process = start(job)  # before the lock, which a fork would hold as well
    lock = DirectoryLock(tmp_path)
    assert last_holder(tmp_path) == Holder(os.getpid(), HERE)
    (tmp_path / "held").touch()
    wait_for("begun")
    lock.release()
    assert exit_code(process) == 128 + signal.SIGTERM


def test_an_interruption_travels_between_processes() -> None:
    again = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM)))
    assert (str(again), again.exit_code) == ("SIGTERM", 128 + signal.SIGTERM)


def test_what_comes_first_is_done_before_a_signal_stops_a_block() -> None:
    done: list[str] = []
    with (
        pytest.raises(Interrupted),
        StopSignals() as signals,
        signals.at_once(lambda: done.append("jobs stopped")),
    ):
        signal.raise_signal(signal.SIGTERM)
    assert done == ["jobs stopped"]

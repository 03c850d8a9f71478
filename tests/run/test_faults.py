"""Signals, kills, full disks, low memory and rival processes never cost a run its result."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_exp.app import run_directories as claim
from mnist_exp.app.commands.view_results import find_runs, main
from mnist_exp.experiment.run import run_experiment
from mnist_exp.run.lock import DirectoryLock, is_locked
from mnist_exp.run.results import read_results, write_results
from tests.helpers.fault_injection import (
    CNN,
    KFOLD,
    LONG,
    SMALL,
    command,
    composed,
    exit_code,
    few_images,
    kill_at_file_event,
    largest_file,
    outcome,
    run_in_process,
    start_command,
    status,
    wait_until,
)

CLIPPED = (*KFOLD, "constraint=clip")


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_experiment(composed(*CLIPPED), directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("event", [0, 1, 2, 4, 7, 11, 14, 18, 23, 28, 34, 39, 42])
def test_a_run_killed_at_a_file_goes_on_to_the_same_result(
    tmp_path: Path, clipped: Path, event: int
) -> None:
    config, directory = composed(*CLIPPED), tmp_path / "run"
    code, _ = run_in_process(config, directory, kill_at_file_event(event, directory))
    assert code == -signal.SIGKILL
    # and once more while it resumes
    run_in_process(config, directory, kill_at_file_event(event // 2, directory))
    code, output = run_in_process(config, directory)
    assert code == 0, output
    assert outcome(directory) == outcome(clipped)


@pytest.mark.slow
@pytest.mark.parametrize("size", [5_000, 70_000, 500_000])
def test_a_full_disk_is_reported_and_written_files_stay_sound(
    tmp_path: Path, clipped: Path, size: int
) -> None:
    config, directory = composed(*CLIPPED), tmp_path / "run"
    code, output = run_in_process(config, directory, largest_file(size, kill=False))
    assert code == 2, output
    assert "the disk is full" in output
    assert "Traceback" not in output
    state, error = status(directory)
    assert (state, "the disk is full" in error) == ("failed", True)
    assert list(directory.rglob("*.tmp")) == []
    assert run_in_process(config, directory)[0] == 0
    assert outcome(directory) == outcome(clipped)


def test_low_memory_is_reported_as_such(tmp_path: Path) -> None:
    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)

    config = composed(*CNN, "training.eval_batch_size=10000", data=("data=mnist",))
    code, output = run_in_process(config, tmp_path / "run", limit)
    assert code == 2, output
    assert "Traceback" not in output
    state, error = status(tmp_path / "run")
    assert state == "failed"
    assert "out of memory" in error
    assert "Lower training.eval_batch_size" in error


def test_a_loss_that_is_not_finite_stops_with_what_to_try(tmp_path: Path) -> None:
    diverging = (*KFOLD, "optimizer.lr=1e30")
    code, output = run_in_process(composed(*diverging), tmp_path / "stop")
    assert code == 2, output
    state, error = status(tmp_path / "stop")
    assert state == "failed"
    for words in ("the loss is nan in epoch 1, batch", "learning rate 1e+30", "training.on_nan"):
        assert words in error
    code, output = run_in_process(composed(*diverging, "training.on_nan=skip"), tmp_path / "skip")
    assert code == 2, output
    assert "training diverged" in status(tmp_path / "skip")[1]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_of_the_program_fails_with_its_traceback(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Linear):\n"
        "    def __init__(self, num_classes): super().__init__(784, num_classes); self.calls = 0\n"
        "    def forward(self, x):\n"
        "        self.calls += 1\n"
        "        if self.calls > 6: raise KeyError('a bug')\n"  # later than the first step
        "        return super().forward(x.flatten(1))\n"
    )
    model = ("model._target_=broken.Broken", *(f"~model.{k}" for k in KEYS))
    ended = command(
        *few_images(), *KFOLD, f"cv.n_jobs={jobs}", *model, "hydra.run.dir=run", cwd=tmp_path,
        prepare=lambda: sys.path.insert(0, str(tmp_path)),
    )  # fmt: skip
    assert ended[0] not in (0, 2), ended[1]
    assert "Traceback" in ended[1]
    state, error = status(tmp_path / "run")
    assert state == "failed"
    assert "KeyError: 'a bug'" in error


KEYS = ("hidden_sizes", "activation", "dropout")


def long_run(tmp_path: Path) -> tuple[int, Path]:
    """Start a run from the command line and wait until it trains."""
    directory = tmp_path / "run"
    process = start_command(
        *few_images(), *LONG, "hydra.run.dir=run", cwd=tmp_path, log=tmp_path / "log"
    )
    wait_until((directory / "metrics.jsonl").exists, process)
    return process, directory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: int, code: int) -> None:
    process, directory = long_run(tmp_path)
    os.kill(process, number)
    assert exit_code(process) == code
    assert status(directory) == ("interrupted", f"stopped by {signal.Signals(number).name}")
    log = (tmp_path / "log").read_text()
    assert "continue with: python -m mnist_exp resume=" in log
    assert "Traceback" not in log
    rows = [json.loads(row) for row in (directory / "metrics.jsonl").read_text().splitlines()]
    newest = max(path.stem for path in (directory / "checkpoints").glob("epoch_*.pt"))
    assert newest.startswith(f"epoch_{rows[-1]['epoch']:05d}")


@pytest.mark.slow
def test_a_second_sigint_stops_at_once(tmp_path: Path) -> None:
    config = (*few_images(), *LONG, "training.batch_size=600", "model.hidden_sizes=[5000,1000]")
    process = start_command(*config, "hydra.run.dir=run", cwd=tmp_path, log=tmp_path / "log")
    wait_until((tmp_path / "run" / "results.json").exists, process)
    for _ in range(2):
        os.kill(process, signal.SIGINT)
        time.sleep(0.05)
    assert exit_code(process) == 130
    assert status(tmp_path / "run")[0] == "interrupted"


@pytest.mark.slow
def test_a_dead_run_is_shown_with_the_command_that_resumes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process, directory = long_run(tmp_path)
    assert [entry.status for entry in find_runs(tmp_path)] == ["running"]
    code, output = command(f"resume={directory}", cwd=tmp_path)
    assert code == 2
    assert f"{directory}: is in use by process {process} on" in output
    os.kill(process, signal.SIGKILL)
    exit_code(process)
    assert [entry.status for entry in find_runs(tmp_path)] == ["dead"]
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"{directory}: dead (its process is gone)" in shown
    assert f"python -m mnist_exp resume={directory}" in shown


@pytest.mark.slow
def test_runs_started_together_get_a_directory_each(tmp_path: Path) -> None:
    processes = [
        start_command(*few_images(), *CNN, "training.epochs=1", cwd=tmp_path) for _ in range(5)
    ]
    assert [exit_code(process) for process in processes] == [0] * 5
    runs = list(find_runs(tmp_path / "outputs"))
    assert [run.status for run in runs] == ["completed"] * 5
    outcomes = [outcome(run.directory) for run in runs]
    assert outcomes == [outcomes[0]] * 5


@pytest.mark.slow
def test_of_processes_that_want_the_same_directory_one_gets_it(tmp_path: Path) -> None:
    arguments = (*few_images(), *CNN, "hydra.run.dir=run")
    logs = [tmp_path / f"log{number}" for number in range(5)]
    processes = [start_command(*arguments, cwd=tmp_path, log=log) for log in logs]
    codes = [exit_code(process) for process in processes]
    assert sorted(codes) == [0, 2, 2, 2, 2]
    for code, log in zip(codes, logs, strict=True):
        text = log.read_text()
        assert code == 0 or "is in use by process" in text or "holds files already" in text
    outcome(tmp_path / "run")


def test_a_run_that_came_and_went_before_the_lock_was_free_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = claim.DirectoryLock

    def late_lock(directory: Path) -> DirectoryLock:
        write_results(directory, {"status": "completed"})
        return lock(directory)

    monkeypatch.setattr(claim, "DirectoryLock", late_lock)
    code, text = command(*few_images(), *CNN, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 2
    assert "holds files already" in text
    assert read_results(tmp_path / "run") == {"status": "completed"}


def test_a_lock_on_a_directory_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    first = DirectoryLock(directory)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(DirectoryLock, directory, wait=10)
        time.sleep(0.1)
        shutil.rmtree(directory)
        first.release()
        with second.result():
            assert is_locked(directory)


@pytest.mark.slow
def test_folds_in_processes_end_with_a_signal_or_with_their_parent(tmp_path: Path) -> None:
    arguments = (*few_images(), "model=mlp100", "cv.n_splits=2", "cv.n_jobs=2", *SMALL[1:])
    arguments = (*arguments, "training.epochs=100000", "hydra.run.dir=run")
    process = start_command(*arguments, cwd=tmp_path, log=tmp_path / "log")
    folds = [tmp_path / "run" / "checkpoints" / f"fold_{fold}" for fold in (1, 2)]
    wait_until(lambda: all(any(fold.glob("epoch*")) for fold in folds), process)
    os.kill(process, signal.SIGKILL)
    exit_code(process)
    for fold in folds:
        DirectoryLock(fold, wait=10).release()  # released as its process exits
        assert any(fold.glob("epoch_*.pt"))
    again = start_command("resume=run", cwd=tmp_path, log=tmp_path / "log")
    rows = tmp_path / "run" / "metrics.jsonl"
    size = rows.stat().st_size
    wait_until(lambda: rows.stat().st_size > size, again)
    os.kill(again, signal.SIGTERM)
    assert exit_code(again) == 143, (tmp_path / "log").read_text()
    assert status(tmp_path / "run") == ("interrupted", "stopped by SIGTERM")

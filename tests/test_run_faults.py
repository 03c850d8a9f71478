"""Signals, kills, full disks, short memory and rival processes never cost a result."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_exp import claim
from mnist_exp.experiment import run_experiment
from mnist_exp.run.lock import DirectoryLock, is_locked
from mnist_exp.run.results import read_results, write_results
from mnist_exp.run.saved_config import as_typed
from mnist_exp.run.table import best, find_runs, latest, main
from tests.fault_injection import (
    CNN,
    KFOLD,
    SMALL,
    command,
    composed,
    exit_code,
    few_images,
    kill_at_file_event,
    largest_file,
    outcome,
    start_command,
    train,
)

CLIPPED = (*KFOLD, "constraint=clip")
LONG = ("model=mlp100", "cv=none", "training.epochs=100000", *SMALL[1:])


def status(directory: Path) -> tuple[str | None, str]:
    results = read_results(directory) or {}
    return results.get("status"), results.get("error", "")


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_experiment(composed(*CLIPPED), directory)
    return directory


@pytest.mark.parametrize("event", [0, 1, 2, 4, 7, 11, 14, 18, 23, 28, 34, 39, 44])
def test_a_run_killed_at_a_file_goes_on_to_the_same_result(
    tmp_path: Path, clipped: Path, event: int
) -> None:
    config, directory = composed(*CLIPPED), tmp_path / "run"
    code, _ = train(config, directory, kill_at_file_event(event, directory))
    assert code == -signal.SIGKILL
    # and while it goes on, once more
    train(config, directory, kill_at_file_event(event // 2, directory))
    code, output = train(config, directory)
    assert code == 0, output
    assert outcome(directory) == outcome(clipped)


@pytest.mark.parametrize("size", [5_000, 70_000, 500_000])
def test_a_full_disk_is_told_and_what_was_written_stays_sound(
    tmp_path: Path, clipped: Path, size: int
) -> None:
    config, directory = composed(*CLIPPED), tmp_path / "run"
    code, output = train(config, directory, largest_file(size, kill=False))
    assert code == 2, output
    assert "the disk is full" in output
    assert "Traceback" not in output
    state, error = status(directory)
    assert (state, "the disk is full" in error) == ("failed", True)
    assert list(directory.rglob("*.tmp")) == []
    assert train(config, directory)[0] == 0
    assert outcome(directory) == outcome(clipped)


def test_short_memory_is_told_as_such(tmp_path: Path) -> None:
    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)

    config = composed(*CNN, "training.eval_batch_size=10000", data=("data=mnist",))
    code, output = train(config, tmp_path / "run", limit)
    assert code == 2, output
    assert "Traceback" not in output
    state, error = status(tmp_path / "run")
    assert state == "failed"
    assert "out of memory" in error
    assert "Lower training.eval_batch_size" in error


def test_a_loss_that_is_not_finite_stops_with_what_to_try(tmp_path: Path) -> None:
    diverging = (*KFOLD, "optimizer.lr=1e30")
    code, output = train(composed(*diverging), tmp_path / "stop")
    assert code == 2, output
    state, error = status(tmp_path / "stop")
    assert state == "failed"
    for words in ("the loss is nan in epoch 1, batch", "learning rate 1e+30", "training.on_nan"):
        assert words in error
    code, output = train(composed(*diverging, "training.on_nan=skip"), tmp_path / "skip")
    assert code == 2, output
    assert "training diverged" in status(tmp_path / "skip")[1]


def test_a_fault_of_the_program_fails_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Linear):\n"
        "    def __init__(self, num_classes): super().__init__(784, num_classes)\n"
        "    def forward(self, x): raise KeyError('a bug')\n"
    )
    model = ("model._target_=broken.Broken", *(f"~model.{k}" for k in KEYS))
    ended = command(
        *few_images(), *KFOLD, *model, "hydra.run.dir=run", cwd=tmp_path,
        prepare=lambda: sys.path.insert(0, str(tmp_path)),
    )  # fmt: skip
    assert ended[0] not in (0, 2), ended[1]
    assert "Traceback" in ended[1]
    assert status(tmp_path / "run") == ("failed", "KeyError: 'a bug'")


KEYS = ("hidden_sizes", "activation", "dropout")


def wait_until(condition: Callable[[], object], process: int) -> None:
    for _ in range(6000):
        if condition():
            return
        assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "ended"
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    raise AssertionError("nothing happened in a minute")


def long_run(tmp_path: Path) -> tuple[int, Path]:
    """Start a run from the command line and wait until it trains."""
    directory = tmp_path / "run"
    process = start_command(
        *few_images(), *LONG, "hydra.run.dir=run", cwd=tmp_path, log=tmp_path / "log"
    )
    wait_until((directory / "metrics.jsonl").exists, process)
    return process, directory


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: int, code: int) -> None:
    process, directory = long_run(tmp_path)
    os.kill(process, number)
    assert exit_code(process) == code
    assert status(directory) == ("interrupted", f"stopped by {signal.Signals(number).name}")
    log = (tmp_path / "log").read_text()
    assert "go on with: python -m mnist_exp resume=" in log
    assert "Traceback" not in log
    rows = [json.loads(row) for row in (directory / "metrics.jsonl").read_text().splitlines()]
    newest = max(path.stem for path in (directory / "checkpoints").glob("epoch_*.pt"))
    assert newest.startswith(f"epoch_{rows[-1]['epoch']:05d}")


def test_a_second_sigint_stops_at_once(tmp_path: Path) -> None:
    config = (*few_images(), *LONG, "training.batch_size=600", "model.hidden_sizes=[20000,2000]")
    process = start_command(*config, "hydra.run.dir=run", cwd=tmp_path, log=tmp_path / "log")
    wait_until((tmp_path / "run" / "results.json").exists, process)
    for _ in range(2):
        os.kill(process, signal.SIGINT)
        time.sleep(0.05)
    assert exit_code(process) == 130
    assert status(tmp_path / "run")[0] == "interrupted"


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


def test_the_table_sorts_and_survives_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, accuracy in {"old": 0.9, "best": 0.99, "new": 0.5}.items():
        results = {"status": "completed", "model": "m", "test_accuracy": accuracy}
        write_results(tmp_path / "day" / name, results)
        stamp = 1000 + len(name) if name == "old" else 2000 + len(name)
        os.utime(tmp_path / "day" / name / "results.json", (stamp, stamp))
    (tmp_path / "multirun" / "0").mkdir(parents=True)
    (tmp_path / "multirun" / "0" / "results.json").write_text("{")
    entries = list(find_runs(tmp_path))
    assert [e.directory.name for e in best(entries)] == ["best", "old", "new", "0"]
    assert [e.directory.name for e in latest(entries)] == ["0", "best", "new", "old"]
    assert main([str(tmp_path), "--sort", "accuracy", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "99.00%" in shown
    assert "90.00%" not in shown
    assert "multirun/0: damaged (" in shown


def test_the_table_needs_no_heavy_package() -> None:
    heavy = "{'torch', 'matplotlib', 'numpy'}"
    code = f"import sys, mnist_exp.run.table; print({heavy} & {{*sys.modules}})"
    root = Path(__file__).parents[1]
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "set()\n"


def test_runs_started_together_get_a_directory_each(tmp_path: Path) -> None:
    processes = [
        start_command(*few_images(), *CNN, "training.epochs=1", cwd=tmp_path) for _ in range(5)
    ]
    assert [exit_code(process) for process in processes] == [0] * 5
    runs = list(find_runs(tmp_path / "outputs"))
    assert [run.status for run in runs] == ["completed"] * 5
    outcomes = [outcome(run.directory) for run in runs]
    assert outcomes == [outcomes[0]] * 5


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


def test_sweeps_started_together_get_a_directory_each(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *CNN, "training.epochs=1", "seed=0,1")
    processes = [start_command(*arguments, cwd=tmp_path) for _ in range(3)]
    assert [exit_code(process) for process in processes] == [0] * 3
    sweeps = list((tmp_path / "outputs" / "multirun").glob("*/*"))
    assert len(sweeps) == 3
    for sweep in sweeps:
        assert outcome(sweep / "0") == outcome(sweeps[0] / "0")
        assert outcome(sweep / "1") == outcome(sweeps[0] / "1")


SWEEP = (*CNN, "training.epochs=1", "seed=0,1", "data.subset=50,3")


def files_of(directory: Path) -> dict[Path, tuple[int, bytes]]:
    paths = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_a_failing_job_does_not_stop_a_sweep_and_the_rest_can_be_run(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *SWEEP, "hydra.sweep.dir=sweep")
    code, output = command(*arguments, cwd=tmp_path)
    assert code == 1, output
    sweep = tmp_path / "sweep"
    states = [status(sweep / str(number))[0] for number in range(4)]
    assert sorted(map(str, states)) == ["completed", "completed", "failed", "failed"]
    failed = sweep / str(states.index("failed"))
    assert "data.subset=3: allowed is 10" in status(failed)[1]
    done = [sweep / str(number) for number in range(4) if states[number] == "completed"]
    before = [files_of(directory) for directory in done]
    table = (sweep / "sweep.csv").read_text()
    code, output = command("sweep.resume=sweep", cwd=tmp_path)
    assert code == 1, output
    assert [files_of(directory) for directory in done] == before
    assert (sweep / "sweep.csv").read_text() == table
    code, output = command("sweep.resume=sweep", "seed=3", cwd=tmp_path)
    assert (code, "give no other settings" in output) == (2, True)
    code, output = command("sweep.resume=nowhere", cwd=tmp_path)
    assert (code, "is no sweep" in output) == (2, True)


def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *CNN, "training.epochs=1", "seed=0,1,2")
    assert command(*arguments, "hydra.sweep.dir=whole", cwd=tmp_path)[0] == 0
    killed = tmp_path / "killed"
    code, _ = command(
        *arguments, "hydra.sweep.dir=killed", cwd=tmp_path,
        prepare=kill_at_file_event(9, killed / "1"),
    )  # fmt: skip
    if code != -signal.SIGKILL:  # Hydra hands relative paths on
        pytest.fail("the sweep was not killed")
    done = files_of(killed / "0")
    assert not (killed / "2").exists()
    with DirectoryLock(killed):
        code, output = command("sweep.resume=killed", cwd=tmp_path)
        assert (code, "is in use by process" in output) == (2, True)
    code, output = command("sweep.resume=killed", cwd=tmp_path)
    assert code == 0, output
    assert files_of(killed / "0") == done
    for job in ("0", "1", "2"):
        assert outcome(killed / job) == outcome(tmp_path / "whole" / job)


def test_the_sweep_of_a_preset_goes_on_with_what_the_preset_sweeps(tmp_path: Path) -> None:
    arguments = (
        *few_images(), "experiment=lr_asymmetry", *KFOLD[1:], "training.epochs=1", "cv.n_jobs=1",
        "hydra.sweep.dir=sweep", "hydra.sweep.subdir=pair${hydra.job.num}",
    )  # fmt: skip
    sweep = tmp_path / "sweep"
    code, output = command(*arguments, cwd=tmp_path, prepare=kill_at_file_event(9, sweep / "pair1"))
    assert code == -signal.SIGKILL, output
    done = files_of(sweep / "pair0")
    code, output = command("sweep.resume=sweep", cwd=tmp_path)
    assert code == 0, output
    assert files_of(sweep / "pair0") == done
    names = ("optimizer.lr_pos", "optimizer.lr_neg")
    rows = [
        {
            key: value
            for key, _, value in (text.partition("=") for text in as_typed(OmegaConf.load(path)))
        }
        for path in sweep.glob("pair*/.hydra/overrides.yaml")
    ]
    rates = ("0.05", "0.1", "0.2")
    assert sorted(tuple(row[name] for name in names) for row in rows) == [
        (up, down) for up in rates for down in rates
    ]


def test_a_signal_stops_a_sweep(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *LONG, "seed=0,1", "hydra.sweep.dir=sweep")
    process = start_command(*arguments, cwd=tmp_path, log=tmp_path / "log")
    wait_until((tmp_path / "sweep" / "0" / "metrics.jsonl").exists, process)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 143
    assert status(tmp_path / "sweep" / "0")[0] == "interrupted"
    assert not (tmp_path / "sweep" / "1").exists()
    assert "go on with: python -m mnist_exp sweep.resume=" in (tmp_path / "log").read_text()


def test_folds_in_processes_end_with_a_signal_or_with_their_parent(tmp_path: Path) -> None:
    arguments = (*few_images(), "model=mlp100", "cv.n_splits=2", "cv.n_jobs=2", *SMALL[1:])
    arguments = (*arguments, "training.epochs=100000", "hydra.run.dir=run")
    process = start_command(*arguments, cwd=tmp_path, log=tmp_path / "log")
    folds = [tmp_path / "run" / "checkpoints" / f"fold_{fold}" for fold in (1, 2)]
    wait_until(lambda: all(any(fold.glob("epoch*")) for fold in folds), process)
    os.kill(process, signal.SIGKILL)
    exit_code(process)
    for fold in folds:
        DirectoryLock(fold, wait=10).release()  # its process noticed and let go
        assert any(fold.glob("epoch_*.pt"))
    again = start_command("resume=run", cwd=tmp_path, log=tmp_path / "log")
    rows = tmp_path / "run" / "metrics.jsonl"
    size = rows.stat().st_size
    wait_until(lambda: rows.stat().st_size > size, again)
    os.kill(again, signal.SIGTERM)
    assert exit_code(again) == 143, (tmp_path / "log").read_text()
    assert status(tmp_path / "run") == ("interrupted", "stopped by SIGTERM")

"""A sweep gives the same table and weights on every engine, and ends and resumes the same way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mnist_exp.app.sweep.launching import running_jobs
from tests.helpers.engines import LONG, TINY, Sweep, is_alive, need

pytestmark = [pytest.mark.slow, pytest.mark.engines]
GRID = (*TINY[:2], "seed=0,1", "data.subset=300,3", *TINY[3:])  # three images are too few
KFOLD = ("model=mlp100", "cv.n_splits=2", "cv.n_jobs=2", "seed=0,1", *TINY[2:])
LOCAL = ("processes", "submitit_local")  # engines of this machine, which need no service
JOBS = ("0", "1", "2")
ENDLESS = (*LONG, "seed=0,1,2", "training.epochs=100000")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("serial") / "grid", "basic", *GRID)
    sweep.end(1)
    return sweep


@pytest.fixture(scope="module")
def serial_long(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("serial") / "long", "basic", *LONG, "seed=0,1,2")
    sweep.end(0)
    return sweep


@pytest.fixture(scope="module")
def serial_folds(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("serial") / "folds", "basic", *KFOLD)
    sweep.end(0)
    return sweep


@pytest.fixture(params=LOCAL)
def engine(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


def same_rows(one: Sweep, other: Sweep) -> bool:
    times = ("wall_seconds",)
    rows = [
        {job: {k: v for k, v in row.items() if k not in times} for job, row in each.rows().items()}
        for each in (one, other)
    ]
    return rows[0] == rows[1]


def test_the_grid_is_that_of_the_serial_sweep(engine: str, serial: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *GRID)
    output = sweep.end(1)
    assert "4 jobs: 2 completed, 2 failed" in output
    assert "Traceback" not in output
    assert same_rows(sweep, serial)
    assert len(sweep.weights()) == 2
    assert sweep.weights() == serial.weights()
    assert {sweep.results(job)["threads"] for job in sweep.weights()} == {1}


def test_folds_train_in_processes_of_a_job(
    engine: str, serial_folds: Sweep, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *KFOLD)
    sweep.end(0)
    assert {len(folds) for folds in sweep.weights().values()} == {2}
    assert sweep.weights() == serial_folds.weights()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_leaves_no_process_and_no_batch_behind(
    engine: str, tmp_path: Path, number: int
) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *ENDLESS)
    sweep.wait_until_trained("0", "1")
    workers = [sweep.worker("0"), sweep.worker("1")]
    if number == signal.SIGINT:
        sweep.interrupt()
    else:
        os.kill(sweep.process.pid, number)
    output = sweep.end(128 + number)
    assert running_jobs(sweep.directory) == []
    assert not any(map(is_alive, workers)) or engine == "submitit_local"
    name = signal.Signals(number).name
    lines = output.splitlines()
    assert f"stopped by {name}" in lines
    assert lines[-1] == f"go on with: python -m mnist_exp sweep.resume={sweep.directory}"
    assert [sweep.rows()[job]["status"] for job in ("0", "1")] == ["interrupted"] * 2
    for job in ("0", "1"):
        assert sweep.results(job)["error"].startswith("stopped by SIG")


def test_a_killed_worker_costs_nothing(engine: str, serial_long: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *LONG, "seed=0,1,2")
    sweep.wait_until_trained("0", "1")
    os.kill(sweep.worker("0"), signal.SIGKILL)
    output = sweep.end(1)
    lines = output.splitlines()
    assert lines[-2].startswith("stopped: ")
    assert lines[-1] == f"go on with: python -m mnist_exp sweep.resume={sweep.directory}"
    assert "Traceback" not in output
    assert running_jobs(sweep.directory) == []
    assert sweep.rows()["0"]["status"] == "interrupted"
    again = Sweep.resumed(sweep.directory)
    again.end(0)
    assert again.weights() == serial_long.weights()


def test_a_killed_launcher_leaves_no_orphans(
    engine: str, serial_long: Sweep, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *LONG, "seed=0,1,2")
    sweep.wait_until_trained("0", "1")
    os.kill(sweep.process.pid, signal.SIGKILL)
    sweep.end(-signal.SIGKILL)
    deadline = time.monotonic() + 60
    while running_jobs(sweep.directory):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "interrupted" in {sweep.results(job)["status"] for job in ("0", "1")}
    again = Sweep.resumed(sweep.directory, "hydra/launcher=basic")  # on another engine
    again.end(0)
    assert again.weights() == serial_long.weights()


def test_a_preempted_job_saves_its_batch_and_goes_on(serial_long: Sweep, tmp_path: Path) -> None:
    need("submitit_local")  # it queues a job again as it does on Slurm
    sweep = Sweep(tmp_path / "sweep", "submitit_local", *LONG, "seed=0,1,2")
    sweep.wait_until_trained("1")
    os.kill(sweep.worker("1"), signal.SIGUSR2)
    partial = sweep.directory / "1" / "checkpoints"
    sweep.wait_for(lambda: any(partial.glob("*_partial.pt")))
    sweep.end(0)
    assert sweep.weights() == serial_long.weights()

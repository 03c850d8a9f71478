"""A sweep gives the same table and weights on every engine, and ends and resumes the same way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mnist_exp.app.sweep.launching import running_jobs
from tests.helpers.engines import (
    BEGUN,
    GRID,
    HOLD,
    KFOLD,
    SAVED,
    SEEDS,
    WHOLE,
    Sweep,
    is_alive,
    need,
    same_rows,
    wait_until,
)
from tests.helpers.held_training import EPOCH

pytestmark = [pytest.mark.slow, pytest.mark.engines]
LOCAL = ("processes", "submitit_local")  # engines of this machine, which need no service


@pytest.fixture(params=LOCAL)
def engine(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.mark.each_push
def test_the_grid_is_that_of_the_serial_sweep(serial_grid: Sweep, tmp_path: Path) -> None:
    need("processes")
    sweep = Sweep(tmp_path / "sweep", "processes", *GRID)
    output = sweep.end(1)
    assert "4 jobs: 2 completed, 2 failed" in output
    assert "Traceback" not in output
    assert same_rows(sweep, serial_grid)
    assert set(sweep.weights()) == set(WHOLE)
    assert sweep.weights() == serial_grid.weights()
    assert {sweep.results(job)["threads"] for job in WHOLE} == {1}


@pytest.mark.each_push
def test_a_preempted_job_saves_its_batch_and_goes_on(serial_grid: Sweep, tmp_path: Path) -> None:
    need("submitit_local")  # it queues a job again as it does on Slurm
    sweep = Sweep(tmp_path / "sweep", "submitit_local", *HOLD, *GRID)
    sweep.wait_until_held(*WHOLE)
    os.kill(sweep.worker(WHOLE[0]), signal.SIGUSR2)
    sweep.wait_for(lambda: sweep.starts(WHOLE[0]) == [BEGUN, SAVED])
    sweep.let_go()
    output = sweep.end(1)
    assert "4 jobs: 2 completed, 2 failed" in output
    assert "Traceback" not in output
    assert [sweep.starts(job) for job in WHOLE] == [[BEGUN, SAVED], [BEGUN]]
    assert same_rows(sweep, serial_grid)
    assert sweep.weights() == serial_grid.weights()


def test_folds_train_in_processes_of_a_job(
    engine: str, serial_folds: Sweep, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *KFOLD)
    sweep.end(0)
    assert {len(folds) for folds in sweep.weights().values()} == {2}
    assert sweep.weights() == serial_folds.weights()


STOPS = [  # by a signal to the launching process, or a key pressed in its terminal
    pytest.param("processes", signal.SIGTERM, marks=pytest.mark.each_push),
    pytest.param("processes", signal.SIGINT),
    pytest.param("submitit_local", signal.SIGTERM),
    pytest.param("submitit_local", signal.SIGINT),
]


@pytest.mark.parametrize(("engine", "number"), STOPS)
def test_a_stopped_sweep_leaves_no_process_behind_and_goes_on(
    engine: str, number: int, serial_grid: Sweep, tmp_path: Path
) -> None:
    need(engine)
    sweep = Sweep(tmp_path / "sweep", engine, *HOLD, *GRID)
    sweep.wait_until_held(*WHOLE)
    workers = [sweep.worker(job) for job in WHOLE]
    if number == signal.SIGINT:
        sweep.interrupt()
    else:
        os.kill(sweep.process.pid, number)
    output = sweep.end(128 + number)
    assert running_jobs(sweep.directory) == []
    if engine != "submitit_local":  # whose jobs have a process around them, which ends later
        wait_until(lambda: not any(map(is_alive, workers)))
    lines = output.splitlines()
    assert f"stopped by {signal.Signals(number).name}" in lines
    command = f"continue with: python -m mnist_exp sweep.resume={sweep.directory}"
    assert lines[-1].partition(" --config-dir")[0] == command
    for job in WHOLE:
        assert sweep.rows()[job]["status"] == "interrupted"
        assert sweep.results(job)["error"].startswith("stopped by SIG")
    again = Sweep.resumed(sweep.directory, "hydra/launcher=basic")  # on another engine
    again.end(1)
    assert [again.starts(job) for job in WHOLE] == [[BEGUN, SAVED]] * len(WHOLE)
    assert again.weights() == serial_grid.weights()


def test_a_killed_worker_costs_nothing(engine: str, serial_seeds: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *HOLD, *SEEDS)
    sweep.wait_until_held("0", "1")
    os.kill(sweep.worker("0"), signal.SIGKILL)
    sweep.let_go()
    output = sweep.end(1)
    lines = output.splitlines()
    assert lines[-2].startswith("stopped: ")
    assert lines[-1].startswith("continue with: ")
    assert "Traceback" not in output
    assert running_jobs(sweep.directory) == []
    assert sweep.rows()["0"]["status"] == "interrupted"
    again = Sweep.resumed(sweep.directory)
    again.end(0)
    assert sweep.starts("0") == [BEGUN, f"{EPOCH} 0"]
    assert again.weights() == serial_seeds.weights()


def test_a_killed_launcher_leaves_no_orphans(
    engine: str, serial_seeds: Sweep, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path / "sweep", engine, *HOLD, *SEEDS)
    sweep.wait_until_held("0", "1")
    os.kill(sweep.process.pid, signal.SIGKILL)
    sweep.end(-signal.SIGKILL)
    wait_until(lambda: not running_jobs(sweep.directory))
    sweep.let_go()
    again = Sweep.resumed(sweep.directory)
    again.end(0)
    assert sweep.starts("0") == [BEGUN, SAVED]
    assert again.weights() == serial_seeds.weights()

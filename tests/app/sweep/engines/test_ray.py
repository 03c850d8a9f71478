"""Sweeps on a real Ray cluster of two nodes, which the tests start on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_exp.app.sweep.launching import running_jobs
from tests.helpers.engines import (
    ENVIRONMENT,
    GRID,
    HOLD,
    KFOLD,
    PATIENCE,
    SEEDS,
    Sweep,
    need,
    same_rows,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.engines]
RAY = (sys.executable, "-m", "ray.scripts.scripts")
HEAD = "127.0.0.1:6379"


@pytest.fixture(scope="module", autouse=True)
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    need("ray_cluster")
    elsewhere = tmp_path_factory.mktemp("elsewhere")  # relative paths must not lead here
    ports = ("--min-worker-port=20000", "--max-worker-port=20100", "--num-cpus=1")
    head = ("--head", "--node-ip-address=127.0.0.1", "--port=6379", "--include-dashboard=false")
    ray("start", *head, *ports, cwd=elsewhere)
    try:
        ray("start", f"--address={HEAD}", "--node-ip-address=127.0.0.2", *ports, cwd=elsewhere)
        ENVIRONMENT["RAY_ADDRESS"] = HEAD
        yield
        assert not [*elsewhere.iterdir()]
    finally:
        ENVIRONMENT.pop("RAY_ADDRESS", None)
        ray("stop", "--force", cwd=elsewhere)


def ray(*arguments: str, cwd: Path) -> None:
    """Run a command of Ray; one that finds no head hangs."""
    subprocess.run(
        [*RAY, *arguments], cwd=cwd, env=ENVIRONMENT, timeout=180, check=True, capture_output=True
    )


def test_the_grid_is_that_of_the_serial_sweep(serial_grid: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "ray_cluster", *GRID)
    assert "4 jobs: 2 completed, 2 failed" in sweep.end(1)
    assert same_rows(sweep, serial_grid)
    assert sweep.weights() == serial_grid.weights()


def test_folds_train_in_a_task(serial_folds: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "ray_cluster", *KFOLD)
    sweep.end(0)
    assert sweep.weights() == serial_folds.weights()


def test_a_killed_task_starts_again_by_itself(serial_seeds: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "ray_cluster", *HOLD, *SEEDS)
    sweep.wait_until_held("0", "1")
    os.kill(sweep.worker("0"), signal.SIGKILL)
    sweep.let_go()
    sweep.end(0)
    assert sweep.weights() == serial_seeds.weights()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_saves_its_jobs(tmp_path: Path, number: int) -> None:
    sweep = Sweep(tmp_path / "sweep", "ray_cluster", *HOLD, *SEEDS)
    sweep.wait_until_held("0", "1")
    os.kill(sweep.process.pid, number)
    if number == signal.SIGINT:
        assert "stopped by SIGINT\n" in sweep.end(128 + number)
    else:  # Ray takes SIGTERM for itself, and ends the process
        assert sweep.process.wait(PATIENCE) != 0
        wait_until(lambda: running_jobs(sweep.directory) == [])
    assert [sweep.results(job)["status"] for job in ("0", "1")] == ["interrupted"] * 2

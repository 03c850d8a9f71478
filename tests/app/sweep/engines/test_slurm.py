"""Sweeps on a real Slurm of two nodes, which the tests start on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_exp.app.sweep.launching import running_jobs
from tests.helpers.engines import (
    BEGUN,
    ENVIRONMENT,
    GRID,
    HOLD,
    KFOLD,
    SAVED,
    SEEDS,
    WHOLE,
    Sweep,
    need,
    same_rows,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.engines]
SCRIPT = Path(__file__).parents[3] / "helpers" / "slurm-two-nodes"


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[None]:
    need("slurm")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("root alone can start a Slurm")
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        pytest.skip("slurmctld, slurmd or munge is not installed")
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    subprocess.run([SCRIPT, "start", directory], check=True)
    ENVIRONMENT["SLURM_CONF"] = str(directory / "slurm.conf")
    try:
        yield
    finally:
        slurm("scancel", "--quiet", "--user=root")
        subprocess.run([SCRIPT, "stop", directory], check=True)
        del ENVIRONMENT["SLURM_CONF"]
        shutil.rmtree(directory, ignore_errors=True)  # the daemons are still ending


def slurm(*command: str) -> list[str]:
    """Run a command of Slurm and return the lines it prints."""
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


@pytest.mark.each_push
def test_the_grid_is_that_of_the_serial_sweep_though_a_job_was_preempted(
    serial_grid: Sweep, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path / "sweep", "slurm", *HOLD, *GRID)
    sweep.wait_until_held(*WHOLE)
    running = slurm("squeue", "-h", "-r", "-t", "R", "-o", "%i")
    (job,) = (name for name in running if name.endswith(f"_{WHOLE[0]}"))
    slurm("scancel", "--signal=USR2", job)
    sweep.wait_for(lambda: sweep.results(WHOLE[0])["status"] == "interrupted")
    assert sweep.results(WHOLE[0])["error"] == "stopped by SIGUSR2"
    sweep.wait_for(lambda: job in slurm("squeue", "-h", "-r", "-t", "PD", "-o", "%i"))
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # it waits for minutes otherwise
    sweep.let_go()
    assert "4 jobs: 2 completed, 2 failed" in sweep.end(1)
    assert [sweep.starts(job) for job in WHOLE] == [[BEGUN, SAVED], [BEGUN]]
    assert same_rows(sweep, serial_grid)
    assert sweep.weights() == serial_grid.weights()
    assert {row["threads"] for row in sweep.rows().values()} == {"1", ""}


def test_folds_train_in_a_job(serial_folds: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "slurm", *KFOLD)
    sweep.end(0)
    assert sweep.weights() == serial_folds.weights()


@pytest.mark.each_push
def test_jobs_outlive_the_command_until_they_are_cancelled(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "slurm", *HOLD, *SEEDS, "seed=0")
    sweep.wait_until_held("0")
    os.kill(sweep.process.pid, signal.SIGTERM)
    output = sweep.end(128 + signal.SIGTERM)
    assert "stopped by SIGTERM; jobs queued in Slurm go on: squeue" in output
    assert sweep.rows()["0"]["status"] == "running"
    again = Sweep.resumed(sweep.directory, "hydra/launcher=basic")
    assert "is in use by process" in again.end(1)
    slurm("scancel", "--quiet", "--user=root")
    wait_until(lambda: running_jobs(sweep.directory) == [])
    assert sweep.results("0")["status"] == "interrupted"
    again = Sweep.resumed(sweep.directory, "hydra/launcher=basic")
    again.end(0)
    assert again.starts("0") == [BEGUN, SAVED]

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

from tests.app.sweep.engines.test_engines import GRID, KFOLD
from tests.helpers.engines import ENVIRONMENT, LONG, Sweep, need

pytestmark = [pytest.mark.slow, pytest.mark.engines]
SCRIPT = Path(__file__).parents[3] / "helpers" / "slurm-two-nodes"
ONE = (*LONG, "seed=0")


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


def test_the_grid_is_that_of_the_serial_sweep(tmp_path: Path) -> None:
    serial = Sweep(tmp_path / "serial", "basic", *GRID)
    serial.end(1)
    sweep = Sweep(tmp_path / "sweep", "slurm", *GRID)
    assert "4 jobs: 2 completed, 2 failed" in sweep.end(1)
    assert len(sweep.weights()) == 2
    assert sweep.weights() == serial.weights()
    assert {row["threads"] for row in sweep.rows().values()} == {"1", ""}


def test_folds_train_in_a_job(tmp_path: Path) -> None:
    serial = Sweep(tmp_path / "serial", "basic", *KFOLD)
    serial.end(0)
    sweep = Sweep(tmp_path / "sweep", "slurm", *KFOLD)
    sweep.end(0)
    assert sweep.weights() == serial.weights()


def test_a_preempted_job_saves_its_batch_and_is_queued_again(tmp_path: Path) -> None:
    serial = Sweep(tmp_path / "serial", "basic", *ONE)
    serial.end(0)
    sweep = Sweep(tmp_path / "sweep", "slurm", *ONE)
    sweep.wait_until_trained("0")
    (job,) = slurm("squeue", "-h", "-t", "R", "-o", "%i")
    slurm("scancel", "--signal=USR2", job)
    sweep.wait_for(lambda: sweep.results("0")["status"] == "interrupted")
    assert sweep.results("0")["error"] == "stopped by SIGUSR2"
    sweep.wait_for(lambda: slurm("squeue", "-h", "-t", "PD", "-o", "%i"))
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # it waits for minutes otherwise
    sweep.end(0)
    assert sweep.weights() == serial.weights()


def test_jobs_outlive_the_command_and_say_where_they_run(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "slurm", *LONG, "training.epochs=100000", "seed=0")
    sweep.wait_until_trained("0")
    os.kill(sweep.process.pid, signal.SIGTERM)
    output = sweep.end(128 + signal.SIGTERM)
    assert "stopped by SIGTERM; jobs queued in Slurm go on: squeue" in output
    assert sweep.rows()["0"]["status"] == "running"
    again = Sweep.resumed(sweep.directory, "hydra/launcher=basic")
    assert "is in use by process" in again.end(1)
    slurm("scancel", "--quiet", "--user=root")

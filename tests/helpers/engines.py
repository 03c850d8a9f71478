"""Sweeps as a user starts them, in processes of their own, on every engine that is installed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import mnist_exp
from mnist_exp.run.lock import last_holder
from mnist_exp.run.results import read_results
from tests.helpers.fault_injection import few_images
from tests.helpers.held_training import BATCH, EPOCH, HELD, LET_GO, STARTS

PATIENCE = 240.0  # seconds for whatever a test waits for, on a busy machine
PACKAGES = {
    "processes": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "slurm": "hydra_submitit_launcher",
    "ray_cluster": "hydra_ray_launcher",
}
SETTINGS = {  # two jobs at once
    "basic": (),
    "processes": ("hydra/launcher=processes", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
    "slurm": ("hydra/launcher=slurm", "hydra.launcher.mem_gb=1"),
    "ray_cluster": ("hydra/launcher=ray_cluster",),
}
TRAINING = ("model=mlp", "training.epochs=3")  # of five batches, with the 300 images below
# two of the jobs fail: three images are too few
GRID = (*TRAINING, "cv=none", "seed=0,1", "data.subset=300,3")
WHOLE = ("0", "2")  # the others
SEEDS = (*TRAINING, "cv=none", "seed=0,1,2", "data.subset=300")
KFOLD = ("model=mlp100", "cv.n_splits=2", "cv.n_jobs=2", "seed=0,1", "data.subset=300",
         "training.epochs=1")  # fmt: skip
# Each training waits in its second epoch, see `HeldTraining`
HOLD = (f"--config-dir={Path(__file__).parent / 'options'}", "callbacks=held")
BEGUN, SAVED = "0 0", f"{EPOCH} {BATCH}"  # where it starts, and again if no batch was lost
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
    "PYTHONPATH": str(Path(mnist_exp.__file__).parents[1]),
    "RAY_AUTH_MODE": "disabled",  # it would write a key to the home directory
}


def need(engine: str) -> None:
    """Skip the test if the engine's package is not installed."""
    package = PACKAGES.get(engine)
    plugins = find_spec("hydra_plugins")
    places = [] if plugins is None else list(plugins.submodule_search_locations or ())
    if package is not None and not any((Path(place) / package).is_dir() for place in places):
        pytest.skip(f"{package} is not installed")


class Sweep:
    """A sweep started as ``python -m mnist_exp`` in a session of its own.

    Parameters
    ----------
    directory : Path
        The sweep's directory; the command runs in its parent.
    engine : str
        A key of `SETTINGS`.
    settings : str
        Overrides.
    """

    def __init__(self, directory: Path, engine: str, *settings: str) -> None:
        name = f"hydra.sweep.dir={directory.name}"  # relative, as a user gives it
        self._start(directory, "-m", *few_images(), *settings, *SETTINGS[engine], name)

    @classmethod
    def resumed(cls, directory: Path, *settings: str) -> Sweep:
        """Resume a sweep."""
        sweep = cls.__new__(cls)
        sweep._start(directory, f"sweep.resume={directory.name}", *settings)
        return sweep

    def _start(self, directory: Path, *arguments: str) -> None:
        self.directory, self.log = directory, directory.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mnist_exp", *arguments],
                cwd=directory.parent, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def end(self, code: int) -> str:
        """Wait for the end, check the exit code and return the output."""
        found = self.process.wait(PATIENCE)
        output = self.log.read_text()
        assert found == code, output
        return output

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds; fail if the launching process ends before."""

        def holds() -> object:
            assert self.process.poll() is None, self.log.read_text()
            return condition()

        wait_until(holds)

    def wait_until_held(self, *jobs: str) -> None:
        """Wait until each job, started with `HOLD`, holds."""
        self.wait_for(lambda: all((self.directory / job / HELD).exists() for job in jobs))

    def let_go(self) -> None:
        """Let all jobs that hold go on, and those that start later not hold."""
        (self.directory / LET_GO).touch()

    def starts(self, job: str) -> list[str]:
        """Return epochs and batches done at each start of a job with `HOLD`."""
        return (self.directory / job / STARTS).read_text().splitlines()

    def interrupt(self) -> None:
        """Press Ctrl-C: SIGINT to the launching process and all it has started."""
        os.killpg(self.process.pid, signal.SIGINT)

    def worker(self, job: str) -> int:
        """Return the id of the process that trains a job."""
        holder = last_holder(self.directory / job)
        assert holder is not None
        return holder.process

    def rows(self) -> dict[str, dict[str, str]]:
        """Return the rows of sweep.csv by job."""
        with (self.directory / "sweep.csv").open(newline="") as file:
            return {row["job"]: row for row in csv.DictReader(file)}

    def results(self, job: str) -> dict[str, Any]:
        """Return a job's results.json."""
        results = read_results(self.directory / job)
        assert results is not None
        return results

    def weights(self) -> dict[str, list[str]]:
        """Return the hash of the weights of each completed job's folds."""
        done = [job for job, row in self.rows().items() if row["status"] == "completed"]
        return {
            job: [fold["weights_sha256"] for fold in self.results(job)["folds"]] for job in done
        }


def same_rows(one: Sweep, other: Sweep) -> bool:
    """Whether two sweeps have the same table, but for the time that jobs took."""
    tables = [each.rows() for each in (one, other)]
    for row in (row for table in tables for row in table.values()):
        del row["wall_seconds"]
    return tables[0] == tables[1]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

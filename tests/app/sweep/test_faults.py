"""Failing jobs, kills, signals and concurrent sweeps never cost a sweep a result."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.saved_config import as_typed
from tests.helpers.fault_injection import (
    CNN,
    KFOLD,
    LONG,
    command,
    exit_code,
    few_images,
    kill_at_file_event,
    outcome,
    start_command,
    status,
    wait_until,
)


@pytest.mark.slow
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


def states_in_table(sweep: Path) -> dict[str, str]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return {row["job"]: row["status"] for row in csv.DictReader(file)}


@pytest.mark.slow
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
    assert (code, "is not a sweep" in output) == (2, True)


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *CNN, "training.epochs=1", "seed=0,1,2")
    assert command(*arguments, "hydra.sweep.dir=whole", cwd=tmp_path)[0] == 0
    killed = tmp_path / "killed"
    code, _ = command(
        *arguments, "hydra.sweep.dir=killed", cwd=tmp_path,
        prepare=kill_at_file_event(9, killed / "1"),
    )  # fmt: skip
    if code != -signal.SIGKILL:  # the hook misses relative paths
        pytest.fail("the sweep was not killed")
    done = files_of(killed / "0")
    assert not (killed / "2").exists()
    states = {"0": "completed", "1": "not run", "2": "not run"}  # when its last job ended
    assert states_in_table(killed) == states
    with DirectoryLock(killed):
        code, output = command("sweep.resume=killed", cwd=tmp_path)
        assert (code, "is in use by process" in output) == (2, True)
    code, output = command("sweep.resume=killed", cwd=tmp_path)
    assert code == 0, output
    assert files_of(killed / "0") == done
    for job in ("0", "1", "2"):
        assert outcome(killed / job) == outcome(tmp_path / "whole" / job)
    assert states_in_table(killed) == dict.fromkeys(states, "completed")


@pytest.mark.slow
def test_the_sweep_of_a_preset_goes_on_with_what_the_preset_sweeps(tmp_path: Path) -> None:
    arguments = (
        *few_images(), "experiment=lr_asymmetry", *KFOLD[1:], "training.epochs=1", "cv.n_jobs=1",
        "optimizer.lr_neg=0.1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=pair${hydra.job.num}",
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
    assert sorted(tuple(row[name] for name in names) for row in rows) == [
        (up, "0.1") for up in ("0.05", "0.1", "0.2")
    ]


@pytest.mark.slow
def test_a_signal_stops_a_sweep(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *LONG, "seed=0,1", "hydra.sweep.dir=sweep")
    process = start_command(*arguments, cwd=tmp_path, log=tmp_path / "log")
    wait_until((tmp_path / "sweep" / "0" / "metrics.jsonl").exists, process)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 143
    assert status(tmp_path / "sweep" / "0")[0] == "interrupted"
    assert not (tmp_path / "sweep" / "1").exists()
    assert "continue with: python -m mnist_exp sweep.resume=" in (tmp_path / "log").read_text()

"""Sweeps: the table of all jobs, from a real sweep and from job directories."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from omegaconf import OmegaConf

from mnist_exp.run import sweep_jobs
from mnist_exp.run import sweep_table as sweep
from mnist_exp.run.overview import RunOverview
from mnist_exp.run.results import write_results
from mnist_exp.run.sweep_jobs import read_jobs, read_outcome
from mnist_exp.run.sweep_record import JobRecord, SweepRecord, write_sweep
from mnist_exp.run.sweep_record import write_job as write_record
from tests.helpers.fault_injection import KFOLD, command, few_images
from tests.helpers.finished_sweeps import results_of, write_finished_sweep

Swept = tuple[int, str, Path]  # exit code, output, directory


@pytest.fixture(scope="module")
def asymmetry(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Run the preset lr_asymmetry at a small scale; half of its jobs have too few images."""
    directory = tmp_path_factory.mktemp("sweep")
    small = [text for text in KFOLD[1:] if not text.startswith(("data.subset", "report"))]
    swept = ["optimizer.lr_pos=0.05,0.2", "data.subset=3,100"]
    arguments = (*few_images(), "experiment=lr_asymmetry", *small, "training.epochs=1", *swept)
    arguments = (*arguments, "optimizer.lr_neg=0.1")
    code, output = command(*arguments, "hydra.sweep.dir=s", cwd=directory)
    return code, output, directory / "s"


def read_csv(sweep_dir: Path) -> list[dict[str, str]]:
    with (sweep_dir / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_of_all_jobs(asymmetry: Swept) -> None:
    _, output, directory = asymmetry
    rows = read_csv(directory)
    assert list(rows[0])[:3] == ["job", "optimizer.lr_pos", "data.subset"]
    for row in rows[:2]:
        results = json.loads((directory / row["job"] / "results.json").read_text())
        assert row["status"] == results["status"] == "completed"
        assert float(row["accuracy"]) == results["accuracy"]["mean"]
        assert float(row["std_accuracy"]) == results["accuracy"]["std"]
        assert float(row["wall_seconds"]) == results["wall_seconds"]
        best = "{mean:.2%} +- {std:.2%}".format(**results["accuracy"])
        assert any(best in line and "completed" in line for line in output.splitlines())
    assert float(rows[0]["accuracy"]) >= float(rows[1]["accuracy"])


def test_failed_jobs_stop_no_others_and_are_in_the_table_with_their_error(asymmetry: Swept) -> None:
    code, output, directory = asymmetry
    failed = read_csv(directory)[2:]
    assert [row["job"] for row in failed] == ["0", "2"]
    assert {row["status"] for row in failed} == {"failed"}
    assert all("data.subset=3" in row["error"] for row in failed)
    assert "4 jobs: 2 completed, 2 failed" in output
    assert code == 1


def test_a_sweep_ends_with_a_picture(asymmetry: Swept) -> None:
    picture = imread(asymmetry[2] / "sweep.png")
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


def test_reading_and_writing_the_table_needs_no_heavy_package() -> None:
    code = (
        "import sys, mnist_exp.run.sweep_table; "
        "print(sorted({'torch', 'matplotlib'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def write_job(directory: Path, overrides: Sequence[str], **results: Any) -> None:
    (directory / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([*overrides]), directory / ".hydra" / "overrides.yaml")
    if results:
        write_results(directory, {"status": "completed", **results})


FOLD = {"fold": 1, "accuracy": 0.5, "loss": 1.0, "wall_seconds": 1.0}


def of_accuracy(mean: float, std: float | None = None) -> dict[str, Any]:
    return {"accuracy": {"mean": mean, "std": std, "n": 1 if std is None else 2}}


ACCURACIES = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=15)  # each example writes files
@given(accuracies=ACCURACIES)
def test_every_job_has_one_row_and_the_best_on_held_out_folds_come_first(
    tmp_path_factory: pytest.TempPathFactory, accuracies: list[float | None]
) -> None:
    directory = tmp_path_factory.mktemp("jobs")
    for number, accuracy in enumerate(accuracies):
        outcome = {"status": "failed"} if accuracy is None else of_accuracy(accuracy, std=0.01)
        write_job(directory / str(number), ["model=mlp100", f"optimizer.lr={number}"], **outcome)
    rows = sweep.write_table(directory)
    known = [row.accuracy for row in rows if row.accuracy is not None]
    assert known == sorted(known, reverse=True)
    assert [row.accuracy for row in rows[: len(known)]] == known
    assert sorted(int(row.job) for row in rows) == list(range(len(accuracies)))
    for row, line in zip(rows, read_csv(directory), strict=True):
        assert row.accuracy == accuracies[int(row.job)]
        assert line["accuracy"] == ("" if row.accuracy is None else str(row.accuracy))
        assert line.get("optimizer.lr", "0") == line["job"] == row.job
        assert "model" not in line  # the same in all jobs


def test_jobs_without_an_accuracy_keep_the_order_in_which_they_ran(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_job(tmp_path / str(number), [f"seed={number}"])
    rows = read_jobs(tmp_path)
    assert [row.job for row in rows] == ["0", "2", "10"]
    assert {row.status for row in rows} == {"failed"}


def test_jobs_are_found_below_any_subdirectory_and_damaged_results_reported(tmp_path: Path) -> None:
    write_job(tmp_path / "lr=1" / "a", ["+extra.lr=1"], **of_accuracy(0.5, 0.1))
    write_job(tmp_path / "lr=2" / "b", ["+extra.lr=2"], **of_accuracy(0.6))
    results = tmp_path / "lr=2" / "b" / "results.json"
    results.write_text(results.read_text().replace("0.6", "0.9"))
    good, damaged = read_jobs(tmp_path)
    assert (good.job, good.overrides, good.accuracy, good.std) == (
        "lr=1/a",
        {"extra.lr": "1"},
        0.5,
        0.1,
    )
    assert (damaged.status, damaged.accuracy) == ("failed", None)
    assert "checksum" in damaged.error


def test_jobs_that_ended_are_read_again_only_if_a_file_of_theirs_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running sweep rewrites its table; the jobs before are most of it."""
    read: list[str] = []

    def noted(sweep_dir: Path, job: JobRecord, *arguments: Any) -> RunOverview:
        read.append(job.directory)
        return read_outcome(sweep_dir, job, *arguments)

    monkeypatch.setattr(sweep_jobs, "read_outcome", noted)
    failed = {"status": "failed", "error": "no"}
    directory = write_finished_sweep(
        tmp_path / "s", [["lr=1"], ["lr=2"], ["lr=3"]],
        lambda n: results_of([0.5]) if n < 2 else failed,
    )  # fmt: skip

    def read_by() -> list[str]:
        read.clear()
        read_jobs(directory)
        return sorted(read)

    assert read_by() == read_by() == ["0", "1", "2"]  # written just now
    for number in range(3):
        os.utime(directory / str(number) / "results.json", (0, time.time() - 60))
    assert read_by() == ["0", "1", "2"]
    assert read_by() == ["2"]  # may be resumed
    write_results(directory / "0", results_of([0.7]))
    assert {row.job: row.accuracy for row in read_jobs(directory)} == {
        "0": 0.7,
        "1": 0.5,
        "2": None,
    }
    write_record(directory, JobRecord(1, ["lr=2"], "1", "another", "completed"))
    assert {row.job: row.status for row in read_jobs(directory)}["1"] == "failed"  # of another hash
    (directory / "0" / "results.json").unlink()
    assert {row.job: row.status for row in read_jobs(directory)}["0"] == "failed"


def test_printed_errors_are_cut_and_those_in_the_file_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "first line\n" + "word " * 100
    write_job(tmp_path / "0", ["seed=0"], status="failed", error=error)
    sweep.print_table(sweep.write_table(tmp_path))
    printed = capsys.readouterr().out
    assert "first line word" in printed
    assert max(map(len, printed.splitlines())) < 200
    assert read_csv(tmp_path)[0]["error"] == error


@pytest.mark.slow
def test_a_sweep_prints_one_line_a_job(asymmetry: Swept) -> None:
    """Between the first line, with the directory, and the table; errors have lines of their own."""
    _, output, directory = asymmetry
    lines = output.splitlines()
    assert f"sweep of 4 jobs in {directory}" in lines
    of_jobs = [line for line in lines if line.startswith("[")]
    assert [line.partition(" ")[0] for line in of_jobs] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert of_jobs[0] == "[1/4] optimizer.lr_pos=0.05 data.subset=3 | failed | directory 0"
    results = json.loads((directory / "1" / "results.json").read_text())
    shown = "{mean:.2%} +- {std:.2%}".format(**results["accuracy"])
    assert f" | test accuracy {shown} | {results['wall_seconds']:.1f} s | directory 1" in of_jobs[1]
    assert not any(line.startswith("fold 1 | epoch") for line in lines)
    assert lines[-1] == f"runs, tables, sweep.png and report.html: {directory}"


def test_the_best_is_chosen_by_validation_where_every_completed_job_has_it(tmp_path: Path) -> None:
    def job(number: int, test: float, validation: float | None) -> None:
        epochs = [
            {"epoch": 1, "validation_accuracy": 0.99},  # not the selected epoch
            {"epoch": 2, "validation_accuracy": validation},
        ]
        fold = FOLD | {"selected_epoch": 2, "epochs": epochs}
        results = of_accuracy(test) | {"folds": [fold]}
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **results)

    job(0, test=0.9, validation=0.5)
    job(1, test=0.8, validation=0.7)
    write_job(tmp_path / "2", ["lr=3"], status="failed", error="no")
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["1", "0", "2"]
    assert [line["validation_accuracy"] for line in read_csv(tmp_path)] == ["0.7", "0.5", ""]
    job(3, test=0.1, validation=None)  # no validation accuracy to compare
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["0", "1", "3", "2"]


def test_without_validation_images_no_job_is_called_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, accuracy in enumerate((0.1, 0.9)):
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **of_accuracy(accuracy))
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["0", "1"]  # as they ran, not by test accuracy
    sweep.print_table(rows)
    assert "none is called best, since test images must not choose: set cv=holdout" in (
        capsys.readouterr().out
    )


def test_the_best_of_k_fold_is_called_optimistic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, accuracy in enumerate((0.1, 0.9)):
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **of_accuracy(accuracy, std=0.01))
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["1", "0"]
    sweep.print_table(rows)
    note = "(optimistic, since it was selected on the same images)"
    assert f"the best first, by held-out accuracy {note}" in capsys.readouterr().out


def job_of_loss(directory: Path, number: int, loss: float, accuracy: float) -> None:
    """Write a completed job of one epoch, also to its record."""
    row = {"epoch": 1, "validation_accuracy": accuracy, "validation_loss": loss}
    fold = FOLD | {"selected_epoch": 1, "epochs": [row]}
    results = of_accuracy(accuracy) | {"folds": [fold], "host": f"node{number}"}
    write_job(directory / str(number), [f"lr={number + 1}"], **results)
    record = JobRecord(number, [f"lr={number + 1}"], str(number), status="completed")
    write_record(directory, record)


def test_jobs_are_ranked_by_the_objective_of_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".jobs").mkdir()
    for number, (loss, accuracy) in enumerate(((2.0, 0.9), (0.5, 0.8), (1.0, 0.7))):
        job_of_loss(tmp_path, number, loss, accuracy)

    def ranked_by(objective: str, direction: str) -> list[str]:
        record = SweepRecord([], [], {}, objective=objective, direction=direction)
        write_sweep(tmp_path, record)  # its jobs are unknown, as in a search
        return [row.job for row in sweep.write_table(tmp_path)]

    assert ranked_by("validation_accuracy", "maximize") == ["0", "1", "2"]
    assert "validation_loss" not in read_csv(tmp_path)[0]
    assert ranked_by("validation_loss", "maximize") == ["0", "2", "1"]
    assert ranked_by("validation_loss", "minimize") == ["1", "2", "0"]
    assert [row["validation_loss"] for row in read_csv(tmp_path)] == ["0.5", "1.0", "2.0"]
    rows = sweep.write_table(tmp_path)
    sweep.print_table(rows)
    assert "; the best (lowest) first, by validation loss" in capsys.readouterr().out
    assert " | validation loss 0.5 | " in sweep.job_line(rows[0], [])
    assert ranked_by("validation_f1", "maximize") == ["0", "1", "2"]  # as they ran
    sweep.print_table(sweep.write_table(tmp_path))
    assert "not every job has a number for sweep.objective" in capsys.readouterr().out


def test_the_terminal_names_the_hosts_if_jobs_ran_on_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        job_of_loss(tmp_path, number, 1.0, 0.5)
    sweep.print_table(sweep.write_table(tmp_path))
    assert [row["host"] for row in read_csv(tmp_path)] == ["node0", "node1"]
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert "host" in header.split()
    assert "node0" in first.split()
    sweep.print_table([row for row in sweep.write_table(tmp_path) if row.job == "0"])
    assert "host" not in capsys.readouterr().out

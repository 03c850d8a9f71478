"""One table of all jobs of a sweep: a row for each job asked for, whatever became of it."""

from __future__ import annotations

import csv
import io
import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_atomic
from mnist_exp.run.lock import is_locked
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.saved_config import key_of
from mnist_exp.run.sweep_record import (
    SWEEP_FILE,
    AskedJob,
    JobRecord,
    begun_jobs,
    read_job,
    read_sweep,
)
from mnist_exp.run.yaml_files import load_overrides
from mnist_exp.terminal import printable

LONGEST_ERROR = 100  # characters printed of it; sweep.csv has it all
NEVER_BEGAN = "not run"
NO_RESULTS = "stopped before it wrote results.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    status : str
        "running", "completed", "interrupted", "failed" or "not run".
    error : str
        What went wrong, empty if nothing did.
    results : dict
        Content of results.json, empty if there is none of this job.
    """

    status: str
    error: str = ""
    results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What is known of one job.

    Attributes
    ----------
    job : str
        Its directory, relative to the sweep's.
    overrides : dict of str
        Setting and value, as on the command line.
    status : str
        As in `Outcome`.
    accuracy : float or None
        Share of right test predictions, in [0, 1]; with k-fold the mean over folds. None unless
        the job is completed.
    std : float or None
        Sample standard deviation over folds.
    wall_seconds : float or None
        Duration of the job.
    error : str
        What went wrong, empty if nothing did.
    validation : float or None
        Share of right predictions on the validation images in the epoch reported; with k-fold
        the mean over folds.
    """

    job: str
    overrides: dict[str, str]
    status: str
    accuracy: float | None
    std: float | None
    wall_seconds: float | None
    error: str
    validation: float | None = None


def write_table(sweep_dir: Path) -> list[Row]:
    """Write sweep.csv, best accuracy first, and return its rows.

    The columns are the job, the settings that are not the same in all jobs, ``accuracy`` and
    ``std_accuracy`` (shares in [0, 1]), ``validation_accuracy`` if there is any,
    ``wall_seconds``, ``status`` and ``error``.

    Parameters
    ----------
    sweep_dir : Path
        Holds a directory a job; the jobs may still be running.
    """
    rows = read_jobs(sweep_dir)
    settings = swept_settings(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    validated = any(row.validation is not None for row in rows)
    columns = ["accuracy", "std_accuracy", *["validation_accuracy"] * validated, "wall_seconds"]
    writer.writerow(["job", *settings, *columns, "status", "error"])
    for row in rows:
        values = (row.overrides.get(name, "") for name in settings)
        numbers = [row.accuracy, row.std, *[row.validation] * validated, row.wall_seconds]
        writer.writerow([row.job, *values, *numbers, row.status, row.error])
    write_atomic(sweep_dir / "sweep.csv", text.getvalue().encode())
    return rows


def read_jobs(sweep_dir: Path) -> list[Row]:
    """Return a row for each job asked for: the best first, those without an accuracy last.

    Raises
    ------
    UserError
        If sweep.json is damaged.
    """
    sweep = read_sweep(sweep_dir) if (sweep_dir / SWEEP_FILE).exists() else None
    if sweep is None or sweep.version == 0:  # of an older commit, which kept no record of its jobs
        rows = _rows_of_directories(sweep_dir)
    elif sweep.jobs is None:
        rows = [_row_of_record(sweep_dir, number) for number in begun_jobs(sweep_dir)]
    else:
        rows = [_row_of_record(sweep_dir, job.number, job) for job in sweep.jobs]
    chosen = best_by_validation(rows)

    def place(row: Row) -> float:
        score = row.validation if chosen else row.accuracy
        return math.inf if score is None else -score

    return sorted(rows, key=place)


def best_by_validation(rows: Iterable[Row]) -> bool:
    """Whether every completed job has a validation accuracy, so that it chooses the best.

    A setting chosen by the test images would make their accuracy too good.
    """
    completed = [row for row in rows if row.status == COMPLETED]
    return completed != [] and all(row.validation is not None for row in completed)


def chosen_by(rows: Iterable[Row]) -> str:
    """Say by what the best job is chosen."""
    return "validation accuracy" if best_by_validation(rows) else "test accuracy"


def read_outcome(sweep_dir: Path, job: JobRecord) -> Outcome:
    """Say what became of a job that began; results of another configuration are not its own."""
    if job.status == "refused":
        return Outcome("failed", job.error)
    directory = sweep_dir / job.directory
    try:
        results = read_results(directory)
    except UserError as error:
        return Outcome("failed", str(error))
    if results is None or results.get("config_hash", job.config_hash) != job.config_hash:
        if job.status == COMPLETED:
            return Outcome("failed", "its results.json was deleted or replaced")
        outcome = Outcome(job.status, job.error)
    else:
        outcome = Outcome(results["status"], results.get("error") or "", results)
    if outcome.status == "running" and not is_locked(directory):
        return Outcome("interrupted", "its process is gone", outcome.results)
    return outcome


def swept_settings(rows: Sequence[Row]) -> list[str]:
    """Return the settings that differ between jobs, in the order of the command line."""
    names = dict.fromkeys(name for row in rows for name in row.overrides)
    return [name for name in names if len({row.overrides.get(name) for row in rows}) > 1]


def print_table(rows: Sequence[Row]) -> None:
    """Print what `write_table` writes, for people: long errors are cut."""
    settings = swept_settings(rows)
    validated = any(row.validation is not None for row in rows)
    header = ["accuracy", *["validation"] * validated, "wall s", "status", "job", "error"]
    cells = [[*settings, *header]]
    for row in rows:
        values = (row.overrides.get(name, "") for name in settings)
        seconds = "" if row.wall_seconds is None else f"{row.wall_seconds:.1f}"
        error = textwrap.shorten(row.error, LONGEST_ERROR, placeholder=" ...")
        validation = "" if row.validation is None else f"{row.validation:.2%}"
        numbers = [shown_accuracy(row), *[validation] * validated, seconds]
        cells.append([*values, *numbers, row.status, row.job, error])
    cells = [[printable(cell) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())
    known = any(row.accuracy is not None for row in rows)
    order = f"; the best first, by {chosen_by(rows)}" if known else ""
    print(f"{len(rows)} jobs: {count_by_status(rows)}{order}")


def shown_accuracy(row: Row) -> str:
    """Say the accuracy in percent, with the deviation over folds if there is one."""
    if row.accuracy is None:
        return ""
    return f"{row.accuracy:.2%}" + ("" if row.std is None else f" +- {row.std:.2%}")


def count_by_status(rows: Iterable[Row]) -> str:
    """Say how many jobs are in which state, for example ``8 completed, 1 failed``."""
    states = [row.status for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def validation_accuracy(results: dict[str, Any]) -> float | None:
    """Return the validation accuracy of the epoch reported, the mean over folds; None without."""
    found = [
        epoch.get("validation_accuracy")
        for part in results.get("folds", [results])
        for epoch in part.get("epochs", ())
        if epoch["epoch"] == part["selected_epoch"]
    ]
    return None if not found or None in found else statistics.mean(found)


def _rows_of_directories(sweep_dir: Path) -> list[Row]:
    directories = [path.parents[1] for path in sweep_dir.rglob(".hydra/overrides.yaml")]
    directories.sort(key=lambda path: [(len(part), part) for part in path.parts])  # 2 before 10
    rows = []
    for directory in directories:
        overrides: list[str] = []
        try:
            overrides = load_overrides(directory / ".hydra" / "overrides.yaml")
            results = read_results(directory) or {"status": "failed", "error": NO_RESULTS}
            outcome = Outcome(results["status"], results.get("error") or "", results)
        except UserError as error:
            outcome = Outcome("failed", str(error))
        rows.append(_row(directory.relative_to(sweep_dir).as_posix(), overrides, outcome))
    return rows


def _row_of_record(sweep_dir: Path, number: int, asked: AskedJob | None = None) -> Row:
    try:
        job = read_job(sweep_dir, number)
    except UserError as error:
        name = str(number) if asked is None else asked.directory
        return _row(name, asked.overrides if asked else [], Outcome("failed", str(error)))
    if job is None:
        assert asked is not None
        return _row(asked.directory, asked.overrides, Outcome(NEVER_BEGAN))
    return _row(job.directory, job.overrides, read_outcome(sweep_dir, job))


def _row(name: str, overrides: list[str], outcome: Outcome) -> Row:
    results = outcome.results if outcome.status == COMPLETED else {}
    return Row(
        job=name,
        overrides={key_of(text): text.partition("=")[2] for text in overrides},
        status=outcome.status,
        accuracy=results.get("mean_accuracy", results.get("test_accuracy")),
        std=results.get("std_accuracy"),
        wall_seconds=outcome.results.get("wall_seconds"),
        error=outcome.error,
        validation=validation_accuracy(results),
    )

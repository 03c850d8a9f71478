"""One table of all jobs of a sweep, from what each left in its directory."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.printable import printable
from mnist_exp.run.files import write_atomic
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import as_typed

LONGEST_ERROR = 100  # characters printed of it; sweep.csv has it all
BEFORE_RESULTS: dict[str, Any] = {
    "status": "failed",
    "error": "stopped before it wrote results.json",
}


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
        That of results.json; "failed" if there is none or it is damaged.
    accuracy : float or None
        Share of right test predictions, in [0, 1]; with k-fold the mean over folds.
    std : float or None
        Sample standard deviation over folds.
    wall_seconds : float or None
        Duration of the job.
    error : str
        What went wrong, empty if nothing did.
    """

    job: str
    overrides: dict[str, str]
    status: str
    accuracy: float | None
    std: float | None
    wall_seconds: float | None
    error: str


def report(sweep_dir: Path) -> list[Row]:
    """Write sweep.csv and sweep.png for the jobs that a sweep directory holds by now."""
    from mnist_exp.sweep_plots import draw

    rows = write_table(sweep_dir)
    draw(rows, sweep_dir / "sweep.png")
    return rows


def write_table(sweep_dir: Path) -> list[Row]:
    """Write sweep.csv, best accuracy first, and return its rows.

    The columns are the job, the settings that are not the same in all jobs, ``accuracy`` and
    ``std_accuracy`` (shares in [0, 1]), ``wall_seconds``, ``status`` and ``error``.

    Parameters
    ----------
    sweep_dir : Path
        Holds a directory a job; the jobs may still be running.
    """
    rows = read_jobs(sweep_dir)
    settings = swept_settings(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["job", *settings, "accuracy", "std_accuracy", "wall_seconds", "status", "error"]
    )
    for row in rows:
        values = (row.overrides.get(name, "") for name in settings)
        numbers = (row.accuracy, row.std, row.wall_seconds)
        writer.writerow([row.job, *values, *numbers, row.status, row.error])
    write_atomic(sweep_dir / "sweep.csv", text.getvalue().encode())
    return rows


def read_jobs(sweep_dir: Path) -> list[Row]:
    """Return a row for each job that has begun: best accuracy first, those without one last."""
    directories = [path.parents[1] for path in sweep_dir.rglob(".hydra/overrides.yaml")]
    directories.sort(key=lambda path: [(len(part), part) for part in path.parts])  # 2 before 10
    rows = [_read_job(path, path.relative_to(sweep_dir).as_posix()) for path in directories]
    return sorted(rows, key=lambda row: math.inf if row.accuracy is None else -row.accuracy)


def swept_settings(rows: Sequence[Row]) -> list[str]:
    """Return the settings that differ between jobs, in the order of the command line."""
    names = dict.fromkeys(name for row in rows for name in row.overrides)
    return [name for name in names if len({row.overrides.get(name) for row in rows}) > 1]


def print_table(rows: Sequence[Row]) -> None:
    """Print what `write_table` writes, for people: long errors are cut."""
    settings = swept_settings(rows)
    cells = [[*settings, "accuracy", "wall s", "status", "job", "error"]]
    for row in rows:
        values = (row.overrides.get(name, "") for name in settings)
        seconds = "" if row.wall_seconds is None else f"{row.wall_seconds:.1f}"
        error = textwrap.shorten(row.error, LONGEST_ERROR, placeholder=" ...")
        cells.append([*values, shown_accuracy(row), seconds, row.status, row.job, error])
    cells = [[printable(cell) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())
    print(f"{len(rows)} jobs: {count_by_status(rows)}")


def shown_accuracy(row: Row) -> str:
    """Say the accuracy in percent, with the deviation over folds if there is one."""
    if row.accuracy is None:
        return ""
    return f"{row.accuracy:.2%}" + ("" if row.std is None else f" +- {row.std:.2%}")


def count_by_status(rows: Iterable[Row]) -> str:
    """Say how many jobs are in which state, for example ``8 completed, 1 failed``."""
    states = [row.status for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _read_job(directory: Path, name: str) -> Row:
    overrides = {}
    for text in as_typed(OmegaConf.load(directory / ".hydra" / "overrides.yaml")):
        setting, _, value = text.lstrip("+").partition("=")
        overrides[setting] = value
    try:
        results = read_results(directory) or BEFORE_RESULTS
    except UserError as error:
        results = {"status": "failed", "error": str(error)}
    return Row(
        job=name,
        overrides=overrides,
        status=results["status"],
        accuracy=results.get("mean_accuracy", results.get("test_accuracy")),
        std=results.get("std_accuracy"),
        wall_seconds=results.get("wall_seconds"),
        error=results.get("error") or "",
    )

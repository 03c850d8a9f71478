"""CSV files in the run directory."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_exp.files.atomic import write_atomic
from mnist_exp.files.regular import open_own, read_regular
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker

METRICS, STEPS, RESULTS = "metrics.csv", "steps.csv", "results.csv"
Row = dict[str, Any]


class CSV(Tracker):
    """Write a line per epoch to metrics.csv, per logged step to steps.csv, and results.csv.

    Folds have files of their own until the end of the run, which puts them together.
    """

    def start(self, run: TrackedRun) -> None:
        """Read what was written before, without the steps that are repeated."""
        self.run = run
        self.epochs: dict[str, Row] = {}
        self.columns: list[str] = []
        if run.over_folds:
            return
        if run.step:
            self.epochs = {row["epoch"]: row for row in read_csv(run.files / METRICS)}
            steps = [row for row in read_csv(run.files / STEPS) if int(row["step"]) <= run.step]
        else:
            steps = []
        self._write_steps(steps)

    def log_rows(self, rows: Sequence[tuple[Mapping[str, float], int]]) -> None:
        """Append steps; write the file of the epochs anew."""
        steps: list[Row] = []
        for metrics, step in rows:
            if "epoch" in metrics:
                self.epochs[str(step)] = dict(metrics)
            else:
                own = {key.removeprefix("step/"): value for key, value in metrics.items()}
                steps.append({"step": step, **own})
        if steps:
            self._append_steps(steps)
        if len(steps) < len(rows):
            write_csv(self.run.files / METRICS, list(self.epochs.values()))

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Write the results, and one file for the epochs and one for the steps of all folds."""
        if self.run.over_folds:
            for name in (METRICS, STEPS):
                write_csv(self.run.directory / name, rows_of_folds(self.run.directory, name))
        if results:
            write_csv(self.run.directory / RESULTS, [dict(results)])

    def where(self) -> str:
        """Return the paths."""
        return f"{self.run.directory / METRICS}, {STEPS}, {RESULTS}"

    def _append_steps(self, rows: list[Row]) -> None:
        if not all(row.keys() <= set(self.columns) for row in rows):
            self._write_steps([*read_csv(self.run.files / STEPS), *rows])
            return
        path = self.run.files / STEPS
        with open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            file.write(_lines(rows, self.columns))

    def _write_steps(self, rows: list[Row]) -> None:
        self.columns = columns_of(rows)
        write_csv(self.run.files / STEPS, rows)


def rows_of_folds(directory: Path, name: str) -> list[Row]:
    """Return the rows of each fold's file, with the fold's number."""
    files = [path / name for path in directory.glob("fold_*") if (path / name).is_file()]
    numbered = sorted((int(path.parent.name.removeprefix("fold_")), path) for path in files)
    return [{"fold": fold, **row} for fold, path in numbered for row in read_csv(path)]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return all columns of rows, in the order of their first occurrence."""
    return list(dict.fromkeys(key for row in rows for key in row))


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a file, which may be missing; empty cells are left out."""
    with contextlib.suppress(FileNotFoundError):
        text = io.StringIO(read_regular(path).decode(), newline="")
        rows = csv.DictReader(text)
        return [{key: value for key, value in row.items() if key and value} for row in rows]
    return []


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with a header line."""
    columns = columns_of(rows)
    header = _lines([{column: column for column in columns}], columns) if columns else b""
    write_atomic(path, header + _lines(rows, columns))


def _lines(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

"""Tables of a sweep: sweep.csv, sweep_by_seed.csv, and both on the terminal."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnist_exp.files.atomic import write_atomic
from mnist_exp.run.objective import MINIMIZE
from mnist_exp.run.over_seeds import SEED, SeedGroup, over_seeds
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.sweep_jobs import (
    OPTIMISTIC,
    Row,
    count_by_status,
    measured,
    measured_columns,
    ranking_of,
    read_jobs,
    swept_settings,
    value_of,
)
from mnist_exp.run.text_table import shown_accuracy, shown_number, table_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

TABLE, TABLE_BY_SEED = "sweep.csv", "sweep_by_seed.csv"
LONGEST_ERROR = 100  # characters printed; sweep.csv has the full text


def write_table(sweep_dir: Path) -> list[Row]:
    """Write sweep.csv, sweep_by_seed.csv if the seed was swept, and return the rows of the first.

    The columns are those of `job_records` and `seed_records`, of the settings that differ between
    jobs; the best come first where one may be called so.

    Parameters
    ----------
    sweep_dir : Path
        The sweep's directory; jobs may still be running.
    """
    rows = read_jobs(sweep_dir)
    settings = swept_settings(rows)
    _write(sweep_dir / TABLE, job_records(rows, settings))
    if SEED in settings:
        _write(sweep_dir / TABLE_BY_SEED, seed_records(rows, settings))
    return rows


def job_records(rows: Sequence[Row], settings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of sweep.csv, in the order given.

    They have the job, the ``settings`` as typed (None: not given), ``accuracy`` and
    ``std_accuracy`` (over folds), ``validation_accuracy`` if any job has it, the metrics as
    ``test_NAME`` and ``validation_NAME``, ``wall_seconds``, ``threads``, ``host``, ``status`` and
    ``error``.
    Accuracies are shares in [0, 1].
    """
    accuracy, *others = measured_columns(rows)
    return [
        {
            "job": row.job,
            **{name: row.overrides.get(name) for name in settings},
            accuracy: row.accuracy,
            "std_accuracy": row.std,
            **{column: measured(row).get(column) for column in others},
            "wall_seconds": row.wall_seconds,
            "threads": row.threads,
            "host": row.host,
            "status": row.status,
            "error": row.error,
        }
        for row in rows
    ]


def seed_records(rows: Sequence[Row], settings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of sweep_by_seed.csv: the jobs with the same ``settings`` but for the seed.

    They have the settings, ``n`` and ``n_asked`` (jobs in the mean, and requested), ``missing``
    (seeds of the jobs that are not in it), mean and sample standard deviation (``std_NAME``) over
    seeds of each measured column of sweep.csv, and the mean of ``wall_seconds``.
    """
    columns = measured_columns(rows)
    records = []
    for group in ranked_groups(rows, settings):
        record: dict[str, Any] = {name: value or None for name, value in group.settings.items()}
        record |= {"n": len(group.jobs), "n_asked": len(group.asked), "missing": _missing(group)}
        for column in columns:
            record[column], record[f"std_{column}"] = _over(group, column)
        record["wall_seconds"] = group.over(lambda row: row.wall_seconds).mean
        records.append(record)
    return records


def ranked_groups(rows: Sequence[Row], settings: Sequence[str]) -> list[SeedGroup[Row]]:
    """Return the jobs with the same ``settings`` but for the seed, the best mean first.

    The mean is of what ranks the jobs; where nothing does, groups keep their order.
    """
    ranking = ranking_of(rows)

    def place(group: SeedGroup[Row]) -> tuple[bool, float]:
        mean = group.over(value_of).mean
        return not group.jobs, 0.0 if ranking is None else ranking.place(mean)

    return sorted(over_seeds(rows, [name for name in settings if name != SEED]), key=place)


def print_table(rows: Sequence[Row]) -> None:
    """Print the tables on the terminal, long errors shortened, metrics of one number only."""
    settings = swept_settings(rows)
    columns = _printed_columns(rows)
    hosts = ["host"] * (len({row.host for row in rows if row.host is not None}) > 1)
    cells = [[*settings, *map(_heading, columns), "seconds", *hosts, "status", "job", "error"]]
    for row in rows:
        values = (row.overrides.get(name, "") for name in settings)
        numbers = [shown_number(measured(row).get(column)) for column in columns]
        numbers[0] = shown_accuracy(row.accuracy, row.std)
        error = textwrap.shorten(row.error, LONGEST_ERROR, placeholder=" ...")
        ended = [_seconds(row.wall_seconds), *[row.host or ""] * len(hosts), row.status]
        cells.append([*values, *numbers, *ended, row.job, error])
    print("\n".join(table_lines(cells)))
    print(f"{counted(len(rows), 'job')}: {count_by_status(rows)}{_order(rows)}")
    folds = {row.folds for row in rows if row.std is not None}
    if folds:
        print(f"accuracy +- sample standard deviation over {_either(folds)} folds")
    if SEED in settings:
        _print_groups(rows, settings)
    counts = {row.threads for row in rows if row.threads is not None}
    if len(counts) > 1:
        print(
            f"warning: the jobs trained on {_either(counts)} CPU threads (column "
            f"threads of {TABLE}), which alone makes their results differ a little"
        )


def _print_groups(rows: Sequence[Row], settings: Sequence[str]) -> None:
    """Print a row per setting other than the seed."""
    columns, groups = _printed_columns(rows), ranked_groups(rows, settings)
    names = [name for name in settings if name != SEED]
    lacking = ["missing seeds"] * any(group.missing for group in groups)
    cells = [[*names, *map(_heading, columns), "seconds", "n", *lacking]]
    for group in groups:
        numbers = []
        for mean, std in (_over(group, column) for column in columns):
            numbers.append(shown_number(mean) + ("" if std is None else f" +- {shown_number(std)}"))
        seconds = _seconds(group.over(lambda row: row.wall_seconds).mean)
        missing = [_missing(group)] * len(lacking)
        cells.append([*group.settings.values(), *numbers, seconds, group.n, *missing])
    print("mean +- sample standard deviation over seeds:")
    print("\n".join(table_lines(cells)))


def _order(rows: Sequence[Row]) -> str:
    """Say what the jobs are ordered by."""
    ranking = ranking_of(rows)
    if ranking is not None:
        best = "best (lowest)" if ranking.direction == MINIMIZE else "best"
        return f"; the {best} first, by {ranking}" + f" ({OPTIMISTIC})" * ranking.held_out
    completed = [row for row in rows if row.status == COMPLETED]
    if completed and all(row.validation is not None for row in completed):
        return "; none is called best, since not every job has a number for sweep.objective"
    if completed:
        return "; none is called best, since test images must not choose: set cv=holdout"
    return ""


def job_line(row: Row, swept: Sequence[str]) -> str:
    """Return the line for a job that has ended: its settings, accuracy, time and directory.

    ``swept`` names the settings that differ between jobs; without any, all are listed.
    """
    settings = swept or list(row.overrides)
    parts = [" ".join(f"{name}={row.overrides.get(name, '')}" for name in settings)]
    if row.accuracy is None:
        parts.append(row.status)
    else:
        parts.append(f"test accuracy {shown_accuracy(row.accuracy, row.std)}")
    if row.validation is not None:
        parts.append(f"validation {shown_accuracy(row.validation)}")
    if row.score is not None and row.score.ranking.value != "accuracy":
        parts.append(f"{row.score.ranking} {shown_number(row.score.value)}")
    if row.wall_seconds is not None:
        parts.append(f"{row.wall_seconds:.1f} s")
    return printable(" | ".join([*parts, f"directory {row.job}"]))


def _over(group: SeedGroup[Row], column: str) -> tuple[float | None, float | None]:
    return group.over(lambda row: measured(row).get(column))


def _missing(group: SeedGroup[Row]) -> str:
    return " ".join(row.overrides.get(SEED, row.job) for row in group.missing)


def _printed_columns(rows: Sequence[Row]) -> list[str]:
    ranking = ranking_of(rows)
    by = None if ranking is None else ranking.column
    return [name for name in measured_columns(rows) if "." not in name or name == by]


def _heading(column: str) -> str:
    return "validation" if column == "validation_accuracy" else column


def _either(counts: Iterable[int | None]) -> str:
    return " or ".join(map(str, sorted(n for n in counts if n is not None)))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    columns = list(records[0]) if records else ["job"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_atomic(path, text.getvalue().encode())

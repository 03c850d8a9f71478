"""The table of a sweep's jobs, each by itself and as means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_exp.plots.sweep_points import short_value
from mnist_exp.report.tables import link, view
from mnist_exp.run.over_seeds import SEED, Spread
from mnist_exp.run.sweep_jobs import Row, measured, measured_columns
from mnist_exp.run.sweep_table import ranked_groups
from mnist_exp.run.table_formats import Column
from mnist_exp.run.text_table import Share

PAGE = "report.html"


def table_of_sweep(rows: Sequence[Row], settings: Sequence[str], sweep_dir: Path) -> dict[str, Any]:
    """Return the data of the table: a view of the jobs and, where the seed was swept, of means.

    Parameters
    ----------
    rows : sequence of Row
        In the order of the table.
    settings : sequence of str
        Those that differ between jobs.
    sweep_dir : Path
        Jobs whose page lies in it are linked.
    """
    pages = [link(sweep_dir / row.job / PAGE, sweep_dir) for row in rows]
    views = [view("each job", job_columns(rows, settings), job=pages)]
    if SEED in settings:
        views.append(view("mean over seeds", seed_columns(rows, settings)))
    return {"views": views}


def job_columns(rows: Sequence[Row], settings: Sequence[str]) -> list[Column]:
    """Return the columns with a row per job; those that say the same of all jobs are left out."""
    hosts = {row.host for row in rows if row.host is not None}
    threads = {row.threads for row in rows if row.threads is not None}
    statuses = Column("status", [row.status for row in rows])
    several = len({*statuses.values}) > 1
    accuracies = [Spread(_share(row.accuracy), _share(row.std)) for row in rows]
    columns = [
        Column("job", [row.job for row in rows]),
        *[statuses] * several,
        *_settings([row.overrides for row in rows], settings),
        Column(accuracy_name(rows), accuracies, "folds"),
        *(Column(_title(name), [measured(row).get(name) for row in rows])
          for name in measured_columns(rows)[1:]),
        Column("seconds", [row.wall_seconds for row in rows], form=",.1f"),
        *[Column("threads", [row.threads for row in rows])] * (len(threads) > 1),
        *[Column("host", [row.host for row in rows])] * (len(hosts) > 1),
        *[Column("error", [row.error for row in rows])] * any(row.error for row in rows),
        *[statuses] * (not several),
    ]  # fmt: skip
    return columns


def seed_columns(rows: Sequence[Row], settings: Sequence[str]) -> list[Column]:
    """Return the columns with a row per setting but the seed, as sweep_by_seed.csv has them."""
    groups = ranked_groups(rows, settings)
    first, *others = measured_columns(rows)

    def over(name: str, column: str) -> Column:
        values = [group.over(lambda row: measured(row).get(column)) for group in groups]
        return Column(name, values, "seeds")

    missing = [" ".join(row.overrides.get(SEED, row.job) for row in g.missing) for g in groups]
    seconds = [group.over(lambda row: row.wall_seconds).mean for group in groups]
    return [
        *_settings([group.settings for group in groups], [n for n in settings if n != SEED]),
        over(accuracy_name(rows), first),
        *(over(_title(column), column) for column in others),
        Column("seeds", [group.n for group in groups]),
        *[Column("missing seeds", missing)] * any(missing),
        Column("mean seconds", seconds, form=",.1f"),
    ]


def accuracy_name(rows: Sequence[Row]) -> str:
    """Return what the accuracy of these jobs is measured on, in words."""
    folds = max((row.folds or 1 for row in rows if row.accuracy is not None), default=1)
    return "held-out accuracy" if folds > 1 else "test accuracy"


def short_names(settings: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key; the whole key where another ends alike."""
    last = [name.rpartition(".")[2] for name in settings]
    return {
        name: short if last.count(short) == 1 else name
        for name, short in zip(settings, last, strict=True)
    }


def _settings(given: Sequence[Mapping[str, str]], settings: Sequence[str]) -> list[Column]:
    names = short_names(settings)
    return [
        Column(name, [short_value(values.get(name, "")) for values in given], short=names[name])
        for name in settings
    ]


def _title(column: str) -> str:
    kind, underscore, rest = column.partition("_")
    return f"{kind} {rest}" if underscore and kind in ("test", "validation") else column


def _share(value: float | None) -> Share | None:
    return None if value is None else Share(value)

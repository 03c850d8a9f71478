"""The columns of a table of runs, and of one over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from mnist_exp.run.find_runs import FoundRun
from mnist_exp.run.over_seeds import SEED, SeedGroup, Spread, over_seeds
from mnist_exp.run.run_columns import differing, metrics_of, setting, share, value_of
from mnist_exp.run.table_formats import Column
from mnist_exp.run.text_table import shown_time

# Columns that make a table too wide.
NOT_PRINTED = ("folds", "threads", "host", "error", "sweep", "last written")
LEFT_OUT = {"csv": (), "text": NOT_PRINTED[:-1]}
Group = SeedGroup[FoundRun]


def table_of_runs(runs: Sequence[FoundRun], form: str) -> list[Column]:
    """Return the columns of a table with a row per run.

    Columns without any value are left out.

    Parameters
    ----------
    runs : sequence of FoundRun
        In the order of the rows.
    form : str
        "text" or one of `mnist_exp.run.table_formats.FORMATS`; only csv has every column.
    """

    def column(name: str, source: str, short: str = "", form: str = ".4g") -> Column:
        return Column(name, [value_of(run, source) for run in runs], short=short, form=form)

    accuracies = [Spread(share(run.accuracy), share(run.std)) for run in runs]
    metrics = [name for name in metrics_of(runs) if form == "csv" or _is_one_test_number(name)]
    columns: tuple[Column, ...] = (
        Column("test accuracy", accuracies, "folds", "accuracy"),
        column("folds", "folds"),
        column("validation accuracy", "validation", "validation"),
        *(column(name.replace("_", " ", 1), name, name.removeprefix("test_")) for name in metrics),
        column("model", "model"),
        *(Column(name, [setting(run, name) for run in runs]) for name in differing(runs)),
        column("parameters", "parameters"),
        column("seconds", "seconds", form=",.1f"),
        column("threads", "threads"),
        column("host", "host"),
        column("status", "status"),
        column("error", "error"),
        column("sweep", "sweep"),
        Column("last written", [shown_time(run.changed) if run.changed else "" for run in runs]),
        column("directory", "directory"),
    )
    left_out = LEFT_OUT.get(form, NOT_PRINTED)
    others = (column for column in columns[1:] if column.name not in left_out)
    return [columns[0], *filter(_has_values, others)]


def groups_over_seeds(runs: Sequence[FoundRun]) -> list[Group]:
    """Group runs whose settings differ in the seed alone, and in what follows it."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    apart = [
        key for key in keys
        if len({run.overrides.get(key) for run in runs}) > 1 and not _follows_seed(key, runs)
    ]  # fmt: skip
    return over_seeds(runs, apart)


def group_value(group: Group, column: str) -> Any:
    """Return the value that orders groups: the mean of numbers over the seeds, else the first."""
    values = [value_of(run, column) for run in group.jobs or group.asked]
    if all(isinstance(value, int | float) for value in values):
        return statistics.mean(values)
    return values[0]


def table_over_seeds(groups: Sequence[Group]) -> list[Column]:
    """Return the columns of a table with a row per group of `groups_over_seeds`."""
    runs = [run for group in groups for run in group.asked]
    first = [group.asked[0] for group in groups]

    seconds = [group.over(lambda run: run.wall_seconds).mean for group in groups]

    def over(name: str, value: Callable[[FoundRun], float | None], short: str = "") -> Column:
        return Column(name, [group.over(value) for group in groups], "seeds", short)

    def metric(name: str) -> Column:
        return over(name.replace("_", " ", 1), lambda run: run.metrics.get(name))

    columns: tuple[Column, ...] = (
        over("test accuracy", lambda run: share(run.accuracy), "accuracy over seeds"),
        Column("n seeds", [len(group.jobs) for group in groups]),
        Column("missing seeds", [_missing(group) for group in groups]),
        over("validation accuracy", lambda run: share(run.validation), "validation"),
        *map(metric, metrics_of(runs)),
        Column("model", [value_of(run, "model") for run in first]),
        *_settings(groups),
        Column("mean seconds", seconds, form=",.1f"),
    )
    return [columns[0], *filter(_has_values, columns[1:])]


def _settings(groups: Sequence[Group]) -> list[Column]:
    """Return what tells groups apart: settings that were given, and others where those do not."""
    first = [group.asked[0] for group in groups]
    names = [
        name for name in differing([run for group in groups for run in group.asked])
        if all(len({setting(run, name) for run in group.asked}) == 1 for group in groups)
    ]  # fmt: skip
    columns = [Column(name, [setting(run, name) for run in first]) for name in names]
    models = [value_of(run, "model") for run in first]
    rows = zip(models, *(column.values for column in columns), strict=True)
    if len({*rows}) < len(groups):
        columns += [
            Column(name, [group.settings[name] for group in groups])
            for name in (groups[0].settings if groups else ()) if name not in names
        ]  # fmt: skip
    return columns


def _missing(group: Group) -> str:
    named = ((run.overrides.get(SEED, "?"), run.status) for run in group.missing)
    return ", ".join(f"{seed} ({status})" for seed, status in named)


def _follows_seed(key: str, runs: Sequence[FoundRun]) -> bool:
    """Whether a setting is the seed, or was set to it by an interpolation."""
    return all(
        run.overrides[key] == run.overrides.get(SEED) for run in runs if key in run.overrides
    )


def _is_one_test_number(metric: str) -> bool:
    return metric.startswith("test_") and "." not in metric


def _has_values(column: Column) -> bool:
    return any(
        value.mean is not None if isinstance(value, Spread) else value not in (None, "")
        for value in column.values
    )

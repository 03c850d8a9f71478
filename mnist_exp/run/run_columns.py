"""Columns of a list of runs: what may be filtered, sorted and shown, and which settings differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from mnist_exp.errors import UserError
from mnist_exp.run.find_runs import FoundRun
from mnist_exp.run.over_seeds import SEED
from mnist_exp.run.run_settings import as_text
from mnist_exp.run.text_table import Share

Item = TypeVar("Item")

# Columns of results; other columns are settings, by key, and groups, by name.
RESULTS: dict[str, Callable[[FoundRun], Any]] = {
    "accuracy": lambda run: share(run.accuracy),  # on test images
    "std": lambda run: share(run.std),  # over folds
    "folds": lambda run: run.folds,
    "validation": lambda run: share(run.validation),
    "model": lambda run: run.settings.options.get("model") or run.model or None,
    "parameters": lambda run: run.parameters,
    "seconds": lambda run: run.wall_seconds,
    "threads": lambda run: run.threads,
    "host": lambda run: run.host,
    "status": lambda run: run.status,
    "error": lambda run: run.error or None,
    "date": lambda run: run.changed or None,
    "directory": lambda run: str(run.directory),
    "sweep": lambda run: None if run.sweep is None else str(run.sweep),
}
ALWAYS_COMPARED = ("data", "constraint")  # shown where they differ, even if no one set them


def share(value: float | None) -> Share | None:
    """Return an accuracy as a number that people read in per cent."""
    return None if value is None else Share(value)


def value_of(run: FoundRun, column: str) -> Any:
    """Return a run's value of a column, metric or setting; None if it has none."""
    if column in RESULTS:
        return RESULTS[column](run)
    if column in run.metrics:
        return run.metrics[column]
    return run.settings.values.get(column)


def setting(run: FoundRun, column: str) -> str:
    """Return a setting as text; empty if the run does not have it."""
    values = run.settings.values
    return as_text(values[column]) if column in values else ""


def differing(runs: Sequence[FoundRun]) -> list[str]:
    """Return the settings that differ between runs: data, constraint, those given, the seed."""
    known = [run for run in runs if run.settings.values]
    given = dict.fromkeys(name for run in known for name in run.settings.given)
    names = dict.fromkeys((*ALWAYS_COMPARED, *given, SEED))
    del names[SEED]  # the last
    return [
        name for name in (*names, SEED)
        if name not in RESULTS and len({setting(run, name) for run in known}) > 1
    ]  # fmt: skip


def ordered(
    items: Iterable[Item], value: Callable[[Item], Any], highest_first: bool = False
) -> list[Item]:
    """Sort by ``value``: numbers, then text, 2 before 10 also in it; None comes last either way."""
    items = list(items)
    values = [value(item) for item in items]
    numbers = [n for n, found in enumerate(values) if isinstance(found, int | float)]
    none = [n for n, found in enumerate(values) if found is None]
    texts = sorted({*range(len(items))} - {*numbers, *none})
    numbers.sort(key=lambda n: float(values[n]), reverse=highest_first)
    texts.sort(key=lambda n: _natural(as_text(values[n])), reverse=highest_first)
    return [items[n] for n in (*numbers, *texts, *none)]


def _natural(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", text)
    return [(int(part[:300]) if n % 2 else 0, part) for n, part in enumerate(parts)]


def metrics_of(runs: Iterable[FoundRun]) -> list[str]:
    """Return the metrics besides accuracy that any run has."""
    return list(dict.fromkeys(column for run in runs for column in run.metrics))


def check_column(
    column: str, runs: Sequence[FoundRun], settings: Callable[[], Collection[str]]
) -> None:
    """Check that a column exists.

    Parameters
    ----------
    column : str
        A column of results, a metric, a setting or a group.
    runs : sequence of FoundRun
        Those listed; what one of them has exists.
    settings : callable
        Returns the keys of all settings; called if no run has the column.

    Raises
    ------
    UserError
        With the nearest names.
    """
    if column in RESULTS:
        return
    names: set[str] = set()
    for run in runs:
        if column in run.metrics or column in run.settings.values:
            return
        names |= {*run.metrics, *run.settings.values}
    names |= {*RESULTS, *settings()}
    if column in names:
        return
    meanings = {name.rpartition(".")[2]: name for name in sorted(names, reverse=True)}
    meanings |= {name: name for name in names}
    close = difflib.get_close_matches(column, meanings, n=1)
    meant = f" Did you mean {meanings[close[0]]}?" if close else ""
    raise UserError(
        f"{column}: there is no such column.{meant} Allowed are {', '.join(RESULTS)}, a metric "
        "such as test_f1, a group such as constraint, and any key of the configuration, such as "
        "optimizer.lr_pos; python -m mnist_exp settings lists the keys."
    )

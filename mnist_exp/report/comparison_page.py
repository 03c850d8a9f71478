"""The page that compares runs, sweeps, folds and seeds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.report.comparison_charts import Compared, accuracies, by_class, curves, times
from mnist_exp.report.page import Chart, render, write_page
from mnist_exp.report.sweep_tables import PAGE, short_names
from mnist_exp.report.tables import link, view
from mnist_exp.run.command_line import command
from mnist_exp.run.find_runs import FoundRun, find_runs, without_repeats
from mnist_exp.run.over_seeds import SEED
from mnist_exp.run.overview import DAMAGED
from mnist_exp.run.results import finished_results
from mnist_exp.run.run_columns import differing, ordered, setting
from mnist_exp.run.run_table import groups_over_seeds, table_of_runs, table_over_seeds
from mnist_exp.run.sweep_jobs import count_by_status
from mnist_exp.run.table_formats import Column
from mnist_exp.run.text_table import shown_accuracy, shown_time
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

DEFAULT_PAGE = "comparison.html"
MOST_DRAWN = 30  # runs in the charts; the table has all
LONGEST_LABEL = 60  # characters
# columns of the table that are left out if all runs say the same
FACTS = ("folds", "model", "parameters", "threads", "host", "status", "sweep")


def write_comparison(paths: Sequence[Path], output: Path | None = None) -> Path:
    """Write a page that compares runs, and return its path.

    Parameters
    ----------
    paths : sequence of Path
        Directories of runs and sweeps; those that hold several are searched, and a sweep is its
        jobs. Of several directories, runs with the settings and the seed of another are left out.
    output : Path, optional
        File to write; comparison.html here by default.

    Raises
    ------
    UserError
        If a path is no directory, or holds no run.
    OSError
        If the page cannot be written.
    """
    runs = _runs_in(paths)
    repeats: list[FoundRun] = []
    if len(paths) > 1:
        runs, repeats = without_repeats(runs)
    for run in runs:
        if run.status == DAMAGED:
            print(printable(f"warning: {run.error}"), file=sys.stderr)
    where = () if output is None else ("--output", str(output))
    again = command("report", *map(str, paths), *where)
    page = output or Path(DEFAULT_PAGE)
    write_page(page, comparison_html(runs, repeats, page.parent, again))
    return page


def _runs_in(paths: Sequence[Path]) -> list[FoundRun]:
    """Return the runs in directories, each once."""
    runs: dict[Path, FoundRun] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: there is no such directory.")
        found = list(find_runs(path))
        if not found:
            raise UserError(f"{path}: holds no run. Give directories of runs or sweeps.")
        for run in found:
            runs.setdefault(run.directory.resolve(), run)
    return [*runs.values()]


def comparison_html(
    runs: Sequence[FoundRun], repeats: Sequence[FoundRun], start: Path, again: str
) -> str:
    """Return the page.

    Parameters
    ----------
    runs, repeats : sequence of FoundRun
        Those compared, and those left out since another has their settings and seed.
    start : Path
        Directory of the page, which links are relative to.
    again : str
        The command that writes the page.
    """
    runs = ordered(runs, lambda run: run.accuracy, highest_first=True)
    drawn = list(islice(_with_results(runs), MOST_DRAWN))
    over_epochs = curves(drawn)
    completed = sum(run.status == "completed" for run in runs)
    return render(
        "comparison.html",
        title=f"Comparison of {counted(len(runs), 'run')}",
        charts=_charts(drawn) | {name: lines for name, (_, lines) in over_epochs.items()},
        data={"runs": _table(runs, start)},
        scripts=["table.js"],
        facts=_facts(runs),
        drawn=len(drawn),
        left_out=completed - len(drawn),
        curves={name: title for name, (title, _) in over_epochs.items()},
        several_folds=any(len(run.folds) > 1 for run in drawn),
        rules=sorted({run.selection_rule for run in runs if run.selection_rule}),
        tested=sorted({tests_of(run.results) for run in drawn}),
        repeats=[str(run.directory) for run in repeats],
        again=again,
    )


def _with_results(runs: Sequence[FoundRun]) -> Iterator[Compared]:
    """Yield the completed runs with their results, which are read one by one."""
    for label, run in zip(labels_of(runs), runs, strict=True):
        if run.status == "completed":
            results = finished_results(run.directory)
            if results is not None:
                yield Compared(label, results)


def tests_of(results: Mapping[str, Any]) -> int:
    """Return how many predictions of test images the results of a run count, over all folds."""
    return round(sum(map(sum, results["confusion_matrix"])) * len(results["folds"]))


def _charts(drawn: Sequence[Compared]) -> dict[str, Chart]:
    """Return the charts of whole runs by name; none without runs."""
    if not drawn:
        return {}
    return {"accuracy": accuracies(drawn), "classes": by_class(drawn), "times": times(drawn)}


def labels_of(runs: Sequence[FoundRun]) -> list[str]:
    """Return a short text for each run that no other has: what differs, else the directory."""
    names = differing(runs)
    short = short_names(names)
    labels = [
        ", ".join(f"{short[name]}={text}" for name in names if (text := setting(run, name)))
        for run in runs
    ]
    unique = len({*labels}) == len(labels) and all(
        0 < len(text) <= LONGEST_LABEL for text in labels
    )
    if unique:
        return labels
    directories = [run.directory.absolute() for run in runs]
    if len({*directories}) == 1:
        return [directory.name for directory in directories]
    common = Path(os.path.commonpath(directories))
    return [directory.relative_to(common).as_posix() for directory in directories]


def _table(runs: Sequence[FoundRun], start: Path) -> dict[str, Any]:
    pages = [link(run.directory / PAGE, start) for run in runs]
    columns = [column for column in table_of_runs(runs, "csv") if not _is_alike(column)]
    rules = Column("rule", [run.selection_rule for run in runs])
    if len({*rules.values}) > 1:
        columns.append(rules)
    directory = columns.pop(next(n for n, c in enumerate(columns) if c.name == "directory"))
    views = [view("each run", [directory, *columns], directory=pages)]
    groups = groups_over_seeds(runs)
    if len(groups) < len(runs) and any(SEED in run.overrides for run in runs):
        views.append(view("mean over seeds", table_over_seeds(groups)))
    return {"views": views}


def _is_alike(column: Column) -> bool:
    """Whether a column says the same of all runs that have a value, and may be left out then."""
    return column.name in FACTS and len({*column.values} - {None, ""}) == 1


def _facts(runs: Sequence[FoundRun]) -> list[tuple[str, str]]:
    facts = [("runs", count_by_status(runs))]
    known = [run for run in runs if run.accuracy is not None and run.status == "completed"]
    if known:
        low, high = known[-1].accuracy, known[0].accuracy
        facts.append(("test accuracy", f"{shown_accuracy(low)} to {shown_accuracy(high)}"))
    models = dict.fromkeys(run.model for run in runs if run.model)
    facts.append(("networks", ", ".join(models) or "–"))
    return [*facts, ("written", shown_time(time.time()))]

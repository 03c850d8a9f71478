"""``python -m mnist_exp view-results [DIR ...]``: runs and sweeps in one table.

Without options, the best and the latest runs, and those that did not finish.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from mnist_exp.app.commands import argument_parser
from mnist_exp.app.options import read_options, root_settings
from mnist_exp.errors import UserError
from mnist_exp.run.command_line import resume_command
from mnist_exp.run.conditions import OPERATORS, parse_condition
from mnist_exp.run.find_runs import FoundRun, find_runs, without_repeats
from mnist_exp.run.lock import is_locked
from mnist_exp.run.overview import DAMAGED, DEAD
from mnist_exp.run.run_columns import check_column, ordered, value_of
from mnist_exp.run.run_table import (
    group_value,
    groups_over_seeds,
    table_of_runs,
    table_over_seeds,
)
from mnist_exp.run.sweep_jobs import NEVER_BEGAN, count_by_status
from mnist_exp.run.table_formats import FORMATS, Column, text_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

# Statuses of runs listed with their resume command.
UNFINISHED = (DEAD, "interrupted", "failed", DAMAGED)
LONGEST_REASON = 500  # characters
ROWS = 10  # of a table on the terminal
REPEAT = "with the settings and seed of another run listed"
HIGHEST_FIRST = ("accuracy", "validation", "date")
EPILOG = f"""\
COLUMN is accuracy (on test images), validation, a metric such as test_f1, seconds, parameters,
status, date, model, directory, sweep; a group, such as constraint; or any key of the configuration,
such as optimizer.lr_pos. Operators are {" ".join(OPERATORS)}; quote < and > for the shell.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argument_parser("view-results")
    parser.epilog = EPILOG
    parser.add_argument(
        "roots", metavar="DIR", nargs="*", type=Path,
        help="where to look for runs and sweeps, sub-directories included (default: outputs)",
    )  # fmt: skip
    parser.add_argument(
        "--where", metavar="COLUMN=VALUE", action="append", default=[],
        help="only runs for which this is true; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--sort", metavar="COLUMN",
        help="one table sorted by COLUMN: accuracy, validation and date from the highest, others "
        "from the lowest",
    )  # fmt: skip
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument(
        "--over-seeds", action="store_true",
        help="one row for runs that differ only in their seed: mean and sample standard deviation",
    )  # fmt: skip
    parser.add_argument("--limit", metavar="N", type=int, help=f"rows of a table (default: {ROWS} "
                        "on the terminal, all with --format or --over-seeds)")  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", *FORMATS), default="text", help="default: text"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Print the tables."""
    options = parser().parse_args(arguments)
    roots = options.roots or [Path("outputs")]
    for root in roots:
        if not root.is_dir():
            parser().error(f"{root}: there is no such directory")
    if options.reverse and options.sort is None:
        parser().error("--reverse: needs --sort COLUMN")
    if options.limit is not None and options.limit < 1:
        parser().error(f"--limit {options.limit}: allowed is 1 or more")
    found = list(find_runs(*roots))
    runs = chosen_runs(found, options)
    repeats: list[FoundRun] = []
    if len(roots) > 1 or options.over_seeds:
        runs, repeats = without_repeats(runs)
    on_terminal = options.format == "text"
    notes = sys.stdout if on_terminal else sys.stderr
    if not runs:
        chosen = f" with {' and '.join(options.where)}" * bool(options.where)
        print(printable(f"no run in {', '.join(map(str, roots))}{chosen}"), file=notes)
    elif on_terminal:
        print_tables(runs, options)
    else:
        print(FORMATS[options.format](columns_of(runs, options, options.sort)), end="")
    print_section("left out", repeat_lines(repeats), notes)
    print_section("settings unknown", unknown_lines(found), notes)
    if on_terminal:
        print_section("not finished", unfinished_lines(latest(runs)), notes)
    return 0


def chosen_runs(runs: Sequence[FoundRun], options: argparse.Namespace) -> list[FoundRun]:
    """Return the runs of which every ``--where`` is true.

    Raises
    ------
    UserError
        If a condition or ``--sort`` is wrong, or names no column.
    """
    conditions = [parse_condition(text) for text in options.where]
    for column in [*(condition.column for condition in conditions), *filter(None, [options.sort])]:
        check_column(column, runs, all_keys)
    return [run for run in runs if all(condition.holds(run) for condition in conditions)]


def all_keys() -> set[str]:
    """Return the keys of all settings, and the groups."""
    options = read_options()
    keys = {key for option in options for key in option.settings if not key.startswith("hydra.")}
    return {*root_settings(), *keys, *(option.group for option in options)}


def latest(runs: Iterable[FoundRun]) -> list[FoundRun]:
    """Sort by date, latest first."""
    return ordered(runs, lambda run: run.changed, highest_first=True)


def columns_of(
    runs: Sequence[FoundRun], options: argparse.Namespace, sort: str | None
) -> list[Column]:
    """Return the columns of a table in the order of ``sort``; None: in that of the directories."""
    few = options.format == "text" and not options.over_seeds
    rows = options.limit or (ROWS if few else None)
    highest_first = (sort in HIGHEST_FIRST) != options.reverse
    if options.over_seeds:
        groups = groups_over_seeds(runs)
        if sort is not None:
            groups = ordered(groups, lambda group: group_value(group, sort), highest_first)
        return table_over_seeds(groups[:rows])
    if sort is not None:
        runs = ordered(latest(runs), lambda run: value_of(run, sort), highest_first)
    return table_of_runs(runs[:rows], options.format)


def print_tables(runs: Sequence[FoundRun], options: argparse.Namespace) -> None:
    """Print the table asked for, or the best and the latest runs."""
    for name, column in headings(options):
        print(f"{name} of {counted(len(runs), 'run')}")
        print("\n".join(text_lines(columns_of(runs, options, column))) + "\n")


def headings(options: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Return the headings of the tables to print and the columns that order them."""
    if options.over_seeds:
        return [("over seeds", options.sort)]
    names = {"accuracy": "best", "date": "latest"}
    if options.sort is None:
        return [(name, column) for column, name in names.items()]
    by_column = f"by {options.sort}"
    return [(by_column if options.reverse else names.get(options.sort, by_column), options.sort)]


def print_section(name: str, lines: Sequence[str], file: TextIO) -> None:
    """Print lines under a heading; nothing without lines."""
    if lines:
        print("\n".join([name, *lines]), file=file)


def repeat_lines(runs: Iterable[FoundRun]) -> list[str]:
    """Name the runs left out, since another has their settings and seed."""
    return [printable(f"{run.directory}: {run.status}, {REPEAT}") for run in runs]


def unknown_lines(runs: Iterable[FoundRun]) -> list[str]:
    """Name the runs whose settings could not be read when a table or condition needed them."""
    problems = [run.settings.problem for run in runs if "settings" in vars(run)]
    return [printable(problem) for problem in problems if problem]


def unfinished_lines(runs: Iterable[FoundRun]) -> list[str]:
    """Return the reason and the command to go on with of each run and sweep that ended early."""
    lines = []
    sweeps: dict[Path, list[FoundRun]] = {}
    for run in runs:
        if run.sweep is not None and run.status in (*UNFINISHED, NEVER_BEGAN):
            sweeps.setdefault(run.sweep, []).append(run)
        if run.status in UNFINISHED:
            first_line, _, _ = run.error.partition("\n")
            lines.append(f"{run.directory}: {run.status} ({first_line[:LONGEST_REASON]})")
            if run.begun and run.sweep is None:
                lines.append(f"    {resume_command(run.directory)}")
    for sweep, jobs in sweeps.items():
        if not _is_running(sweep):
            lines.append(f"{sweep}: {count_by_status(jobs)}")
            lines.append(f"    {resume_command(sweep, 'sweep')}")
    return [printable(line) for line in lines]


def _is_running(sweep: Path) -> bool:
    try:
        return is_locked(sweep)
    except (UserError, OSError):
        return False

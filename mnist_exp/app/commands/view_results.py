"""``python -m mnist_exp view-results [DIR]``: the best, latest and unfinished runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mnist_exp.app.commands import argument_parser
from mnist_exp.run.command_line import resume_command
from mnist_exp.run.overview import DAMAGED, DEAD, RunOverview, read_overview
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import config_file
from mnist_exp.run.text_table import shown_accuracy, shown_number, table_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

# Statuses of runs listed with their resume command.
UNFINISHED = (DEAD, "interrupted", "failed", DAMAGED)
LONGEST_REASON = 500  # characters
WIDEST = 60  # characters of a cell; the directory, the last column, is shown in full


def find_runs(root: Path) -> Iterator[RunOverview]:
    """Yield every run below ``root``, jobs of sweeps included."""
    for path, directories, files in os.walk(root):
        directory = Path(path)
        if RESULTS in files or os.path.isfile(config_file(directory)):
            directories.clear()  # no run lies inside another
            yield read_overview(directory)


def best(runs: Iterable[RunOverview]) -> list[RunOverview]:
    """Sort by accuracy, best first; runs without an accuracy come last."""
    return sorted(
        runs, key=lambda run: (run.accuracy is None, -(run.accuracy or 0.0), -run.changed)
    )


def latest(runs: Iterable[RunOverview]) -> list[RunOverview]:
    """Sort by date, latest first."""
    return sorted(runs, key=lambda run: -run.changed)


def run_lines(runs: Sequence[RunOverview]) -> list[str]:
    """Format runs as lines of a table, with the metrics on test images that are one number."""
    columns = dict.fromkeys(column for run in runs for column in run.metrics)
    metrics = [c for c in columns if c.startswith("test_") and "." not in c]
    head = (
        "accuracy",
        *(c.removeprefix("test_") for c in metrics),
        "model",
        "parameters",
        "seconds",
        "status",
        "last written",
        "directory",
    )
    rows = [list(head)]
    for run in runs:
        cells = (
            shown_accuracy(run.accuracy, run.std),
            *(shown_number(run.metrics.get(column)) for column in metrics),
            run.model,
            "" if run.parameters is None else f"{run.parameters:,}",
            "" if run.wall_seconds is None else f"{run.wall_seconds:.1f}",
            run.status,
            shown_time(run.changed),
        )
        rows.append([*(printable(cell)[:WIDEST] for cell in cells), str(run.directory)])
    return table_lines(rows)


def unfinished_lines(runs: Iterable[RunOverview]) -> list[str]:
    """Return the reason and the resume command of each run that ended early."""
    lines = []
    for run in runs:
        if run.status in UNFINISHED:
            first_line, _, _ = run.error.partition("\n")
            lines.append(f"{run.directory}: {run.status} ({first_line[:LONGEST_REASON]})")
            if run.begun:
                lines.append(f"    {resume_command(run.directory)}")
    return [printable(line) for line in lines]


def shown_time(seconds: float) -> str:
    """Format a Unix time in s as local time; an empty string if out of range."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def main(arguments: list[str]) -> int:
    """Print the tables."""
    parser = argument_parser("view-results")
    parser.add_argument(
        "root", metavar="DIR", nargs="?", type=Path, default=Path("outputs"),
        help="where to look for runs, sub-directories included (default: outputs)",
    )  # fmt: skip
    parser.add_argument("--sort", choices=("accuracy", "date"), help="one table in this order")
    parser.add_argument("--limit", type=int, default=10, help="rows a table (default: 10)")
    options = parser.parse_args(arguments)
    if not options.root.is_dir():
        parser.error(f"{options.root}: there is no such directory")
    if options.limit < 1:
        parser.error(f"--limit {options.limit}: allowed is 1 or more")
    entries = list(find_runs(options.root))
    if not entries:
        print(f"no run in {printable(options.root)}")
    tables = {"accuracy": ("best", best(entries)), "date": ("latest", latest(entries))}
    shown = [options.sort] if options.sort else list(tables)
    for key in shown if entries else ():
        name, ordered = tables[key]
        print(f"{name} of {counted(len(entries), 'run')}")
        print("\n".join(run_lines(ordered[: options.limit])) + "\n")
    lines = unfinished_lines(latest(entries))
    if lines:
        print("\n".join(["not finished", *lines]))
    return 0

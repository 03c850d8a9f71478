"""``python -m mnist_exp view-results [DIR]``: the best and latest runs, and those that died."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_exp.app.commands import argument_parser
from mnist_exp.errors import UserError
from mnist_exp.run.lock import is_locked
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import config_file, resume_command
from mnist_exp.terminal import printable

# Statuses of a run that goes on by its resume command.
UNFINISHED = ("dead", "interrupted", "failed", "damaged")
LONGEST_REASON = 500  # characters
WIDEST = 60  # characters of a cell; the directory stands last and is shown whole


@dataclass(frozen=True)
class Entry:
    """A run as its directory shows it.

    Attributes
    ----------
    directory : Path
        The run directory.
    status : str
        That of results.json, but "dead" for a run that says it is running and has no process,
        and "damaged" for one whose files cannot be read or are not what they should be.
    changed : float
        When its results or, without any, its configuration were last written, Unix time.
    model : str
        Name of the model, empty if not known.
    parameters : int or None
        Trainable parameters.
    accuracy, spread : float or None
        Test accuracy, share in [0, 1]; with k-fold mean and sample standard deviation over folds.
    seconds : float or None
        Duration.
    error : str
        Why it failed or stopped.
    begun : bool
        Whether there is something to resume.
    """

    directory: Path
    status: str
    changed: float
    model: str = ""
    parameters: int | None = None
    accuracy: float | None = None
    spread: float | None = None
    seconds: float | None = None
    error: str = ""
    begun: bool = True


def find_runs(root: Path) -> Iterator[Entry]:
    """Yield every run below ``root``, jobs of sweeps included."""
    for path, directories, files in os.walk(root):
        directory = Path(path)
        if RESULTS in files or os.path.isfile(config_file(directory)):
            directories.clear()  # no run lies inside another
            yield read_entry(directory)


def read_entry(directory: Path) -> Entry:
    """Describe the run in ``directory``; whatever is wrong with its files becomes its error."""
    changed = last_written(directory)
    try:
        alive = is_locked(directory)
        results = read_results(directory)
    except (UserError, OSError) as error:
        return Entry(directory, "damaged", changed, error=str(error))
    if results is None:
        stopped = "" if alive else "it never began to train; start it again"
        return Entry(directory, "running" if alive else "dead", changed, error=stopped, begun=False)
    status, reason = results["status"], results.get("error") or ""
    if status == "running" and not alive:
        status, reason = "dead", "its process is gone"
    return Entry(
        directory,
        status,
        changed,
        model=results.get("model", ""),
        parameters=results.get("parameters"),
        accuracy=results.get("mean_accuracy", results.get("test_accuracy")),
        spread=results.get("std_accuracy"),
        seconds=results.get("wall_seconds"),
        error=reason,
    )


def last_written(directory: Path) -> float:
    """Return when results or, without any, the configuration were written; 0 if nobody knows."""
    for path in (directory / RESULTS, config_file(directory)):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def best(entries: Iterable[Entry]) -> list[Entry]:
    """Sort by accuracy, the best first; runs without one last."""
    return sorted(entries, key=lambda e: (e.accuracy is None, -(e.accuracy or 0.0), -e.changed))


def latest(entries: Iterable[Entry]) -> list[Entry]:
    """Sort by date, the latest first."""
    return sorted(entries, key=lambda entry: -entry.changed)


def table_lines(entries: Sequence[Entry]) -> list[str]:
    """Lay entries out in columns."""
    head = ("accuracy", "model", "parameters", "seconds", "status", "last written", "directory")
    rows: list[tuple[str, ...]] = [head]
    for entry in entries:
        accuracy = "" if entry.accuracy is None else f"{entry.accuracy:.2%}"
        if entry.spread is not None:
            accuracy += f" +- {entry.spread:.2%}"
        rows.append(
            (
                accuracy,
                entry.model,
                "" if entry.parameters is None else f"{entry.parameters:,}",
                "" if entry.seconds is None else f"{entry.seconds:.1f}",
                entry.status,
                shown_time(entry.changed),
                printable(entry.directory),
            )
        )
    rows = [(*(printable(cell)[:WIDEST] for cell in row[:-1]), row[-1]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def unfinished_lines(entries: Iterable[Entry]) -> list[str]:
    """Say for each run that ended early why, and how it goes on."""
    lines = []
    for entry in entries:
        if entry.status in UNFINISHED:
            first_line, _, _ = entry.error.partition("\n")
            lines.append(f"{entry.directory}: {entry.status} ({first_line[:LONGEST_REASON]})")
            if entry.begun:
                lines.append(f"    {resume_command(entry.directory)}")
    return [printable(line) for line in lines]


def shown_time(seconds: float) -> str:
    """Write a Unix time; nothing for one that no calendar has."""
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
        print(f"{name} of {len(entries)} runs")
        print("\n".join(table_lines(ordered[: options.limit])) + "\n")
    lines = unfinished_lines(latest(entries))
    if lines:
        print("\n".join(["not finished", *lines]))
    return 0

"""``python -m mnist_exp seeds cnn21k --seeds 10``: a recipe's accuracy as mean and std.

Each name is a model option or an experiment preset. Every seed is a whole run (weights, data
order, augmentation and validation split all follow it); the table goes to
``outputs/reproduce/<date>-<time>-<name>/table.md``, or below another ``--directory``. If a seed
fails, the table gives the number of completed runs, and the exit code is 1.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mnist_exp.app.commands import argument_parser
from mnist_exp.app.run_directories import claim_directory
from mnist_exp.files.atomic import write_atomic
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import command, override
from mnist_exp.run.over_folds import mean_and_std
from mnist_exp.run.overview import RunOverview, read_overview
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.run_settings import NO_EFFECT
from mnist_exp.run.saved_config import key_of
from mnist_exp.run.sweep_jobs import Row, read_jobs
from mnist_exp.run.sweep_record import SWEEP_FILE
from mnist_exp.run.text_table import Share, shown_accuracy

GROUPS = ("experiment", "model")  # of recipes; of two of one name, the first counts
HEADER = (
    "| recipe | parameters | test accuracy, mean ± std | n | epoch reported "
    "| settings chosen on | seconds a run | command |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
# In the comments above a recipe's settings.
CHOSEN_ON = re.compile(r"\bchosen on (validation|test) images")
# Overrides that leave the settings as they were chosen: more training images, what is measured too.
SAME_SETTINGS = ("cv", "metrics", "threads", *NO_EFFECT)


def recipe_override(name: str) -> str:
    """Return the override that selects a recipe.

    Raises
    ------
    ValueError
        If no experiment or model has that name.
    """
    for group in GROUPS:
        if _file(group, name).is_file():
            return f"{group}={name}"
    known = [
        path.stem for group in ("model", "experiment")
        for path in sorted((config_directory() / group).glob("*.yaml"))
    ]  # fmt: skip
    raise ValueError(f"{name}: no such model or experiment; there are {', '.join(known)}")


def _file(group: str, name: str) -> Path:
    return config_directory() / group / f"{name}.yaml"


def chosen_on(name: str, overrides: list[str]) -> str:
    """Return the images that a recipe's settings were chosen on, in words; empty if unknown.

    Only the recipe as it is has its file's word, without overrides of its settings.
    """
    if any(key_of(text).partition(".")[0] not in SAME_SETTINGS for text in overrides):
        return ""
    texts = [_file(group, name).read_text() for group in GROUPS if _file(group, name).is_file()]
    comments = [line.lstrip("# ") for line in texts[0].splitlines() if line.startswith("#")]
    found = CHOSEN_ON.search(" ".join(comments)) if texts else None
    return f"{found[1]} images" if found else ""


def run_seeds(name: str, seeds: int, overrides: list[str], parent: Path) -> tuple[Path | None, int]:
    """Run the recipe with seeds 0, 1, ... as one sweep; return its directory and exit code.

    The sweep's directory is made in ``parent``. It is None if the sweep was refused before it
    began, and printed its error. Raises UserError if it cannot be made.
    """
    wanted = parent / f"{time.strftime('%Y-%m-%d-%H-%M-%S')}-{name}"
    # not named: another may start in this second
    claimed = claim_directory(wanted, "sweep", named=False, key="--directory")
    claimed.release()
    words = [sys.executable, "-m", "mnist_exp", "-m", recipe_override(name), *overrides]
    words += [f"seed=range({seeds})", override("hydra.sweep.dir", claimed.wanted)]
    try:
        code = subprocess.run(words, check=False).returncode
    finally:
        began = (claimed.wanted / SWEEP_FILE).is_file()
        if not began:
            claimed.unmake()
    return claimed.wanted if began else None, code


def table_row(name: str, directory: Path, rows: list[Row], overrides: list[str]) -> str:
    """Return the table's line for the jobs of a sweep over seeds."""
    completed = [row for row in rows if row.status == COMPLETED]
    runs = [read_overview(directory / row.job) for row in completed]
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    words = ["seeds", name, "--seeds", str(len(rows)), *overrides]
    shown = f"`{command(*words)}`".replace("|", r"\|")  # of a table
    if not completed:
        return f"| {name} | | none completed | 0 of {len(rows)} | | | | {shown} |\n"
    n = str(len(rows)) if len(completed) == len(rows) else f"{len(completed)} of {len(rows)}"
    accuracy = mean_and_std(accuracies)
    seconds = statistics.median(run.wall_seconds or 0.0 for run in runs)
    return (
        f"| {name} | {runs[0].parameters:,} "
        f"| {shown_accuracy(accuracy['mean'], accuracy['std'], ' ± ')}{_metrics(runs)} "
        f"| {n} | {runs[0].selection_rule} | {chosen_on(name, overrides)} | {seconds:.0f} "
        f"| {shown} |\n"
    )


def _metrics(runs: list[RunOverview]) -> str:
    """Return the metrics of test images read in per cent, mean and spread, to stand by accuracy."""
    shown = ""
    for column, value in runs[0].metrics.items():
        part, _, metric = column.partition("_")
        if part == "test" and isinstance(value, Share):
            found = mean_and_std([run.metrics[column] for run in runs])
            shown += f"; {metric} {shown_accuracy(found['mean'], found['std'], ' ± ')}"
    return shown


def parse(arguments: list[str]) -> tuple[list[str], int, list[str], Path]:
    """Return the recipes' names, the number of seeds, every run's overrides and the directory."""
    parser = argument_parser("seeds")
    parser.usage = "%(prog)s [-h] [--seeds N] [--directory DIR] NAME [NAME ...] [KEY=VALUE ...]"
    parser.epilog = (
        "KEY=VALUE goes to every run. Each recipe is a sweep in DIR/<date>-<time>-NAME, with the "
        "table in table.md; the exit code is 1 if a run fails."
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="model or experiment")
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        default=5,
        help="runs per recipe, with seeds 0 to N-1 (default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        default=Path("outputs/reproduce"),
        help="where the sweeps' directories are made (default: %(default)s)",
    )
    options, overrides = parser.parse_known_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: allowed is 1 or more")
    names = [name for name in options.names if "=" not in name]
    overrides += [name for name in options.names if "=" in name]
    flags = [text for text in overrides if text.startswith("-")]
    if flags:
        parser.error(f"{' '.join(flags)}: only KEY=VALUE goes to the runs")
    if any(key_of(text) == "hydra.sweep.dir" for text in overrides):
        parser.error("hydra.sweep.dir: each recipe has its own directory; give --directory DIR")
    if not names:
        parser.error(f"{' '.join(overrides)}: name a model or an experiment too")
    try:
        for name in names:
            recipe_override(name)
    except ValueError as error:
        parser.error(str(error))
    return names, options.seeds, overrides, options.directory


def main(arguments: list[str]) -> int:
    """Run the named recipes, then print and write the table."""
    names, seeds, overrides, parent = parse(arguments)
    lines, failures, exit_code = "", [], 0
    for name in names:
        directory, code = run_seeds(name, seeds, overrides, parent)
        exit_code = exit_code or code
        if directory is None:
            break
        rows = read_jobs(directory)
        line = table_row(name, directory, rows, overrides)
        write_atomic(directory / "table.md", (HEADER + line).encode())
        lines += line
        failures += [
            f"{name} seed={row.overrides['seed']}: {row.status} {row.error}".rstrip()
            for row in rows
            if row.status != COMPLETED
        ]
        if code not in (0, 1):  # stopped by a signal
            break
    if lines:
        print(HEADER + lines)
    for failure in failures:
        print(failure, file=sys.stderr)
    return exit_code

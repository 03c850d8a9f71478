"""The page of a sweep, rewritten while it runs."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mnist_exp.callbacks.sweep_place import time_left
from mnist_exp.errors import UserError
from mnist_exp.plots.sweep_points import best_of, best_words
from mnist_exp.report.importance import RULE, Importance, importance
from mnist_exp.report.page import render, write_page
from mnist_exp.report.sweep_charts import pictures
from mnist_exp.report.sweep_tables import PAGE, table_of_sweep
from mnist_exp.report.swept import Swept, with_settings
from mnist_exp.run.command_line import command, resume_command
from mnist_exp.run.lock import is_locked
from mnist_exp.run.over_seeds import SEED, over_seeds
from mnist_exp.run.sweep_jobs import (
    NEVER_BEGAN,
    Row,
    count_by_status,
    ranking_of,
    read_jobs,
    swept_settings,
    value_of,
)
from mnist_exp.run.sweep_record import JOBS, SWEEP_FILE, SweepRecord, read_sweep
from mnist_exp.run.text_table import shown_accuracy, shown_duration, shown_time
from mnist_exp.wording import counted

ENDED = ("completed", "pruned")


def write_sweep_report(
    sweep_dir: Path, rows: Sequence[Row] | None = None, ended: bool = False
) -> Path:
    """Write ``report.html`` of a sweep and return its path.

    Parameters
    ----------
    sweep_dir : Path
        The sweep's directory; jobs may still be running.
    rows : sequence of Row, optional
        Its jobs as `read_jobs` returns them, if they have been read just now.
    ended : bool
        Whether the process that started the sweep, and still holds its directory, starts no more
        jobs.

    Raises
    ------
    UserError
        If sweep.json is damaged, or the directory holds no job.
    OSError
        If the page cannot be written.
    """
    rows = read_jobs(sweep_dir) if rows is None else rows
    record = None
    with contextlib.suppress(UserError):  # of an older version, or none
        record = read_sweep(sweep_dir)
    if not rows and record is None:
        raise UserError(f"{sweep_dir}: holds no sweep. Give the directory that holds its jobs.")
    page = sweep_dir / PAGE
    write_page(page, sweep_html(sweep_dir, rows, record, ended))
    return page


def sweep_html(
    sweep_dir: Path, rows: Sequence[Row], record: SweepRecord | None, ended: bool = False
) -> str:
    """Return the page of a sweep; the parameters are those of `write_sweep_report`."""
    settings = swept_settings(rows)
    main, small = pictures(rows)
    running = _is_running(sweep_dir, rows, ended)
    unfinished = [row for row in rows if row.status not in (*ENDED, "running")]
    return render(
        "sweep.html",
        title=f"Sweep {sweep_dir.absolute().name}",
        charts={picture.name: picture.chart for picture in (*main, *small)},
        data={"jobs": table_of_sweep(rows, settings, sweep_dir)},
        scripts=["table.js"],
        headline=_headline(rows, settings),
        facts=_facts(sweep_dir, rows, running),
        fixed=sorted(_fixed(rows, settings)),
        running=running,
        pictures=main,
        small=small,
        importance=_importance(rows, settings),
        importance_of=str(ranking_of(rows) or "test accuracy"),
        rule=RULE,
        example=_example(settings),
        pages=any((sweep_dir / row.job / PAGE).is_file() for row in rows),
        report=command("report", str(sweep_dir / (rows[0].job if rows else "0"))),
        repeat=None if record is None else repeat_command(record),
        resume=resume_command(sweep_dir, "sweep") if unfinished and not running else None,
    )


def repeat_command(record: SweepRecord) -> str:
    """Return the command that starts a sweep as this one was started, in a new directory."""
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name in ("config_dir", "config_path", "config_name")
        if (value := getattr(record, name)) is not None and (name, value) != DEFAULT_NAME
    ]
    return command("-m", *flags, *record.hydra_overrides, *record.overrides)


DEFAULT_NAME = ("config_name", "config")


class Headline(NamedTuple):
    """The result in a line: its number, what that is, and which settings led to it."""

    number: str
    words: str
    best: str = ""


def _headline(rows: Sequence[Row], settings: Sequence[str]) -> Headline:
    swept = Swept(with_settings(rows))
    if swept.names in ([], [SEED]) and any(row.accuracy is not None for row in rows):
        (group,) = over_seeds(rows, [])
        mean, std = group.over(lambda row: row.accuracy)
        over = f", mean ± sample std over {group.n} seeds" if settings else ""
        words = f"{swept.label.partition(' (')[0]}{over}"
        return Headline(shown_accuracy(mean, std, " ± "), words)
    best = best_of(swept.points)
    if not best:
        completed = any(row.accuracy is not None for row in rows)
        why = "none is called best: not every job has a number of validation images to rank by"
        return Headline("", why if completed else "no job has a result yet")
    point = swept.points[best[0]]
    words = best_words(swept.points, swept.names, ranking_of(rows))
    number = shown_accuracy(point.accuracy, point.std, " ± ")
    return Headline(number, swept.label, words[:1].upper() + words[1:])


def _facts(sweep_dir: Path, rows: Sequence[Row], running: bool) -> list[tuple[str, str]]:
    seconds = [row.wall_seconds for row in rows if row.wall_seconds is not None]
    facts = [("jobs", f"{counted(len(rows), 'job')}: {count_by_status(rows)}")]
    ranking = ranking_of(rows)
    if ranking is not None:
        facts.append(("ranked by", f"{ranking} ({ranking.direction}d)"))
    if seconds:
        low, high = shown_duration(min(seconds)), shown_duration(max(seconds))
        spread = f", median ({low} to {high})" * (low != high)
        facts.append(("training, all jobs", shown_duration(sum(seconds))))
        facts.append(("a job", shown_duration(statistics.median(seconds)) + spread))
    if running:
        facts.append(("pace", _pace(sweep_dir, rows)))
    return [*facts, ("written", shown_time(time.time()))]


def _pace(sweep_dir: Path, rows: Sequence[Row]) -> str:
    """Say how many jobs ended since the sweep was started or resumed, and how long the rest take.

    Files tell, since jobs may end in other processes and on other machines.
    """
    started = _changed(sweep_dir / SWEEP_FILE)
    statuses = [row.status for row in rows]
    waiting = statuses.count(NEVER_BEGAN) + statuses.count("running")
    # a job's record is written when it begins and when it ends
    ended = [t for t in map(_changed, (sweep_dir / JOBS).glob("*.json")) if t > started]
    over = len(ended) - statuses.count("running")
    if over < 1 or not started:
        return "no job has ended yet"
    each = (max(ended) - started) / over
    left = f", {time_left(waiting, each)}" if waiting else ""
    return f"{shown_duration(each)} a job{left}"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_running(sweep_dir: Path, rows: Sequence[Row], ended: bool) -> bool:
    if any(row.status == "running" for row in rows):
        return True
    try:
        return not ended and is_locked(sweep_dir)
    except (UserError, OSError):
        return False


def _fixed(rows: Sequence[Row], settings: Sequence[str]) -> set[str]:
    """Return the overrides that all jobs share."""
    shared = [{f"{k}={v}" for k, v in row.overrides.items() if k not in settings} for row in rows]
    return set.intersection(*shared) if shared else set()


def _importance(rows: Sequence[Row], settings: Sequence[str]) -> list[Importance]:
    ranked = ranking_of(rows) is not None
    values = [(row, value_of(row) if ranked else row.accuracy) for row in rows]
    known = [(row, value) for row, value in values if value is not None]
    given = {name: [row.overrides.get(name, "") for row, _ in known] for name in settings}
    return importance(given, [value for _, value in known])


def _example(settings: Sequence[str]) -> str:
    last = next((name for name in settings if name != SEED), SEED).rpartition(".")[2]
    return f"filter: words, or {last}=… accuracy>90% status=failed"

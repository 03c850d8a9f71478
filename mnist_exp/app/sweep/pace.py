"""How fast this process gets through its sweep, and the table and page it writes as it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mnist_exp.callbacks.sweep_place import SweepPlace, time_left
from mnist_exp.errors import UserError
from mnist_exp.report.faults import only_warned
from mnist_exp.run.sweep_jobs import Row
from mnist_exp.run.sweep_table import write_table

SHARE = 50  # times what table and page took pass before the next: a fiftieth of the time at most
PAGE_SECONDS = 10.0  # between two pages of a sweep, whichever of its processes write them


@dataclass
class Pace:
    """What this process remembers of a sweep between its jobs.

    Attributes
    ----------
    first : int or None
        Number of the first job that it trained; None: none yet.
    started : float
        When that began, Unix time.
    ended : float or None
        When that ended, on the monotonic clock.
    due : float
        When table and page may be written next, on the monotonic clock.
    """

    first: int | None = None
    started: float = 0.0
    ended: float | None = None
    due: float = 0.0

    def begin(self, place: SweepPlace) -> None:
        """Note that a job begins to train."""
        if self.first is None:
            self.first, self.started = place.number, time.time()
        place.first, place.started = self.first, self.started

    def left(self, place: SweepPlace) -> str | None:
        """Return how long the jobs after one that has ended take; None if unknown.

        Engines hand out jobs by number, so those between two of this process were done by others.
        """
        if self.first is None:
            return None
        if self.ended is None:
            self.ended = time.monotonic()
            return None
        done = place.number - self.first
        if place.jobs is None or done < 1 or place.number + 1 >= place.jobs:
            return None
        return time_left(place.jobs - place.number - 1, (time.monotonic() - self.ended) / done)

    def update(self, sweep_dir: Path, page: bool) -> None:
        """Write the table of the jobs so far unless it is too soon; only warn if that fails.

        It reads every job, so that writing it after every job would cost the square of their
        number. The end of the sweep writes it in any case. With ``page``, report.html is written
        too unless it is younger than `PAGE_SECONDS`.
        """
        started = time.monotonic()
        if started < self.due:
            return
        try:
            rows = write_table(sweep_dir)
            if page and _is_old(sweep_dir / "report.html"):
                write_page(sweep_dir, rows)
        except (OSError, UserError) as error:
            print(f"warning: the table of {sweep_dir} is not up to date: {error}", file=sys.stderr)
        ended = time.monotonic()
        self.due = ended + SHARE * (ended - started)


def has_page(config: Any) -> bool:
    """Whether a sweep has a page; ``report.enabled`` null leaves out those of its jobs alone."""
    return OmegaConf.select(config, "report.enabled") is not False


def write_page(sweep_dir: Path, rows: Sequence[Row], ended: bool = False) -> None:
    """Write a sweep's page (`write_sweep_report`); if that fails, only warn: jobs go on."""
    with only_warned(sweep_dir):
        # loads Jinja2, which --help and --cfg do not need
        from mnist_exp.report.sweep_page import write_sweep_report

        write_sweep_report(sweep_dir, rows, ended)


def _is_old(page: Path) -> bool:
    """Whether the page is due, by the time at which any process wrote it."""
    try:
        age = time.time() - page.stat().st_mtime
    except OSError:
        return True
    return not 0 <= age < PAGE_SECONDS  # of a clock that went back, it is as good as old


_paces: dict[Path, Pace] = {}


def pace_of(sweep_dir: Path) -> Pace:
    """Return what this process remembers of a sweep."""
    return _paces.setdefault(sweep_dir.absolute(), Pace())

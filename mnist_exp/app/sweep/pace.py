"""How fast this process gets through the jobs of its sweep, and the table it writes as it goes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mnist_exp.callbacks.sweep_place import SweepPlace, time_left
from mnist_exp.errors import UserError
from mnist_exp.run.sweep_table import write_table

TABLE_SHARE = 50  # times what a table took pass before the next: a fiftieth of the time at most


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
    table_due : float
        When the next table may be written, on the monotonic clock.
    """

    first: int | None = None
    started: float = 0.0
    ended: float | None = None
    table_due: float = 0.0

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

    def update_table(self, sweep_dir: Path) -> None:
        """Write the table of the jobs so far unless it is too soon; only warn if that fails.

        It reads every job, so that writing it after every job would cost the square of their
        number. The end of the sweep writes it in any case.
        """
        started = time.monotonic()
        if started < self.table_due:
            return
        try:
            write_table(sweep_dir)
        except (OSError, UserError) as error:
            print(f"warning: the table of {sweep_dir} is not up to date: {error}", file=sys.stderr)
        ended = time.monotonic()
        self.table_due = ended + TABLE_SHARE * (ended - started)


_paces: dict[Path, Pace] = {}


def pace_of(sweep_dir: Path) -> Pace:
    """Return what this process remembers of a sweep."""
    return _paces.setdefault(sweep_dir.absolute(), Pace())

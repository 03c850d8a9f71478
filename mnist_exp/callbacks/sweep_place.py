"""Where a job stands in its sweep, and how long the rest will take."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class SweepPlace:
    """A job's place in its sweep; as text ``[2/9]``, or ``[2]`` if their number is unknown.

    Attributes
    ----------
    number : int
        The job's, from 0.
    jobs : int or None
        Jobs of the sweep; None if the sweeper chooses as it goes.
    alone : bool
        Whether the process that started the sweep trains all jobs, one after the other.
    first : int
        Number of the first job that this process trained.
    started : float
        When that began, Unix time.
    """

    number: int
    jobs: int | None = None
    alone: bool = False
    first: int = 0
    started: float = 0.0

    def __str__(self) -> str:
        """Return the place, from 1."""
        return f"[{self.number + 1}" + ("]" if self.jobs is None else f"/{self.jobs}]")


def time_left(jobs: int, seconds: float) -> str:
    """Return in words how long ``jobs`` jobs take at ``seconds`` each."""
    minutes = jobs * seconds / 60
    if minutes < 1.5:
        return f"about {math.ceil(jobs * seconds)} s left"
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"

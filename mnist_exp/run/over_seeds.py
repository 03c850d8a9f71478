"""Jobs that differ in their seed alone: one group per setting, and its mean and spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from mnist_exp.run.over_folds import mean_and_std
from mnist_exp.run.results import COMPLETED

SEED = "seed"


class Job(Protocol):
    """What a group reads of a job, as `mnist_exp.run.sweep_jobs.Row` has it."""

    @property
    def overrides(self) -> Mapping[str, str]:
        """Setting and value, as on the command line."""

    @property
    def status(self) -> str:
        """Status of the job; "completed" takes part in the mean."""

    @property
    def accuracy(self) -> float | None:
        """Test accuracy, share in [0, 1]; a job without one is missing from the mean."""


AnyJob = TypeVar("AnyJob", bound=Job)


class Spread(NamedTuple):
    """Mean and sample standard deviation; without values None, of one value no deviation."""

    mean: float | None
    std: float | None


@dataclass(frozen=True)
class SeedGroup(Generic[AnyJob]):
    """The jobs with the same settings besides the seed.

    Attributes
    ----------
    settings : dict of str
        Setting and value, without the seed; an empty value if the jobs were not given it.
    asked : list
        The jobs requested, in the order given.
    """

    settings: dict[str, str]
    asked: list[AnyJob]

    @property
    def jobs(self) -> list[AnyJob]:
        """The jobs in the mean: completed, with an accuracy."""
        return [job for job in self.asked if _counts(job)]

    @property
    def missing(self) -> list[AnyJob]:
        """The jobs that are not in the mean."""
        return [job for job in self.asked if not _counts(job)]

    @property
    def n(self) -> str:
        """How many jobs the mean is over: ``3``, or ``2 of 3``."""
        jobs, asked = len(self.jobs), len(self.asked)
        return str(jobs) if jobs == asked else f"{jobs} of {asked}"

    def over(self, value: Callable[[AnyJob], float | None]) -> Spread:
        """Return mean and sample standard deviation of ``value`` over the jobs in the mean.

        Both are None if one of these jobs lacks it, so that all means of a group are over the same
        jobs. They are of the values' own type, such as `mnist_exp.run.text_table.Share`.
        """
        values = [number for job in self.jobs if (number := value(job)) is not None]
        if not values or len(values) < len(self.jobs):
            return Spread(None, None)
        kind = type(values[0])
        found = mean_and_std(values)
        return Spread(kind(found["mean"]), None if found["std"] is None else kind(found["std"]))


def over_seeds(
    jobs: Iterable[AnyJob], settings: Sequence[str] | None = None
) -> list[SeedGroup[AnyJob]]:
    """Group jobs by their settings other than the seed; groups are in the order of their first job.

    Parameters
    ----------
    jobs : iterable of Job
        Of one sweep, or of any.
    settings : sequence of str, optional
        What tells groups apart; unless given, all settings but the seed.
    """
    jobs = list(jobs)
    if settings is None:
        settings = [name for name in dict.fromkeys(n for j in jobs for n in j.overrides)
                    if name != SEED]  # fmt: skip
    groups: dict[tuple[str, ...], list[AnyJob]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(name, "") for name in settings), []).append(job)
    return [
        SeedGroup(dict(zip(settings, values, strict=True)), group)
        for values, group in groups.items()
    ]


def _counts(job: Job) -> bool:
    return job.status == COMPLETED and job.accuracy is not None

"""How much each setting of a sweep matters: a plain rule, said in a sentence."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FEWEST_JOBS = 8  # that have a number; with fewer, shares say nothing
GROUPS = 5  # into which numbers of more values are cut
RULE = (
    "Share of the variance between jobs that a setting explains by itself: epsilon squared of a "
    "one-way analysis of variance (Kelley 1935), which allows for the number of values; numbers of "
    f"more than {GROUPS} values are cut into {GROUPS} groups of about as many jobs each. What "
    "settings do only together does not show, and shares hold for the values tried alone."
)


class Importance(NamedTuple):
    """A setting and the share in [0, 1] of the variance that it explains; None: not enough jobs."""

    name: str
    share: float | None


def importance(settings: Mapping[str, Sequence[str]], values: Sequence[float]) -> list[Importance]:
    r"""Return the importance of each setting, the greatest first; none of fewer than 8 jobs.

    With N jobs in k groups of equal values of the setting, and SS the sum of squares,
    :math:`\epsilon^2 = 1 - (1 - SS_{between} / SS_{total}) (N - 1) / (N - k)`, at least 0
    (T. L. Kelley, An unbiased correlation ratio measure, PNAS 21, 554-559, 1935).

    Parameters
    ----------
    settings : dict
        By name, the value for each job, as typed; empty where it was not given.
    values : sequence of float
        The objective of each job.
    """
    if len(values) < FEWEST_JOBS or len(settings) < 2:
        return []
    found = [Importance(name, _share(groups_of(texts), values)) for name, texts in settings.items()]
    return sorted(found, key=lambda each: -1.0 if each.share is None else -each.share)


def groups_of(texts: Sequence[str]) -> list[int]:
    """Return a group for each job: of equal values, or of numbers that are near each other."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return _places(texts)
    if len({*numbers}) <= GROUPS:
        return _places(numbers)
    ordered = sorted(numbers)
    # the rank of the first job with that value, so that equal values stay together
    ranks = {number: rank for rank, number in reversed([*enumerate(ordered)])}
    return [ranks[number] * GROUPS // len(numbers) for number in numbers]


def _places(values: Sequence[object]) -> list[int]:
    place = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return [place[value] for value in values]


def _share(groups: Sequence[int], values: Sequence[float]) -> float | None:
    jobs, kinds = len(values), len({*groups})
    mean = statistics.fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    if jobs <= kinds or kinds < 2 or total == 0:
        return None
    members: dict[int, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        members.setdefault(group, []).append(value)
    between = sum(len(m) * (statistics.fmean(m) - mean) ** 2 for m in members.values())
    return max(0.0, 1 - (1 - between / total) * (jobs - 1) / (jobs - kinds))

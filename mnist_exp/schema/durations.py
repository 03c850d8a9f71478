"""Times with a unit, such as 1h, in seconds."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

from mnist_exp.schema.rule import Rule

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "mo": 30 * 86_400, "y": 365 * 86_400}
DURATION = re.compile(rf"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)({'|'.join(SECONDS)})")


def seconds_of(duration: str) -> float:
    """Return a time such as 1.5h in seconds; a month (mo) has 30 days, a year (y) 365.

    Raises
    ------
    ValueError
        If it is no number with a unit.
    """
    found = DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(duration)
    return float(found[1]) * SECONDS[found[2]]


def _are_increasing(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not value:
        return False
    if not all(isinstance(time, str) and DURATION.fullmatch(time) for time in value):
        return False
    seconds = [0.0, *map(seconds_of, value)]
    return all(before < after < math.inf for before, after in pairwise(seconds))


TIMES = Rule(
    _are_increasing,
    "a list of increasing times above 0, a number and a unit each: "
    "s, min, h, d, mo (30 d) or y (365 d), such as [1s,1h,1d,1mo,1y]",
)

"""Times with units."""

from __future__ import annotations

import pytest

from mnist_exp.schema.durations import TIMES, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("1.5min", 90), ("1h", 3600), ("1d", 86_400), ("1mo", 2_592_000),
     ("1y", 31_536_000), ("1e-3s", 1e-3)],
)  # fmt: skip
def test_seconds_of_a_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "times",
    [[], ["1"], [1], ["1h", "1h"], ["1d", "1h"], ["0s"], ["-1s"], ["1m"], ["s"], "1s", ["1 h"]],
)
def test_times_that_are_refused(times: object) -> None:
    assert not TIMES.accepts(times)


def test_times_may_mix_units() -> None:
    assert TIMES.accepts(["1s", "2min", "1h", "1d", "1mo", "1y"])

"""Measurements are read as they are meant, and refused with the row that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnist_exp.device.measurement.ramps import Measurement
from mnist_exp.device.measurement.readings import read_measurement
from mnist_exp.errors import UserError

LEVELS = [float(level) for level in range(1, 10)]


def lines_of(up: list[float], down: list[float], cycle: str = "") -> list[str]:
    """Return rows of a cycle; pulse 0 is the first reading of each ramp."""
    return [
        f"{pulse},{conductance},{direction}{cycle}"
        for direction, ramp in (("up", up), ("down", down))
        for pulse, conductance in enumerate(ramp)
    ]


GOOD = ["pulse,conductance,direction", *lines_of(LEVELS, LEVELS[::-1])]
TWO = ["pulse,conductance,direction,cycle"]
TWO += lines_of(LEVELS, LEVELS[::-1], ",1") + lines_of(LEVELS, LEVELS[::-1], ",2")


def read(tmp_path: Path, lines: list[str], symmetric: bool = False) -> Measurement:
    path = tmp_path / "device.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_measurement(path, symmetric)


def changed(lines: list[str], row: int, text: str | None) -> list[str]:
    """Return lines with the row, counted from 1, replaced or left out."""
    return [*lines[: row - 1], *([] if text is None else [text]), *lines[row:]]


def test_cycles_are_rows_of_ramps(tmp_path: Path) -> None:
    found = read(tmp_path, TWO)
    assert found.up.conductances.tolist() == [LEVELS, LEVELS]
    assert found.down.conductances.tolist() == [LEVELS[::-1]] * 2
    assert found.up.pulses.tolist() == list(range(9))
    assert found.bounds == (1.0, 9.0)
    assert found.pulses == 8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",up", ",Potentiation"),
        (",up", ",+1"),
        (",down", ", -1"),
        (",", ";"),
        (",", "\t"),
        ("pulse", "\ufeffPulse"),
    ],
)
def test_spellings_that_mean_the_same(tmp_path: Path, old: str, new: str) -> None:
    expected = read(tmp_path, GOOD)
    found = read(tmp_path, [line.replace(old, new) for line in GOOD])
    assert found.up.conductances.tolist() == expected.up.conductances.tolist()
    assert found.down.conductances.tolist() == expected.down.conductances.tolist()


def test_without_a_column_for_it_a_cycle_begins_where_directions_start_over(tmp_path: Path) -> None:
    found = read(tmp_path, [line.rpartition(",")[0] for line in TWO])
    assert len(found.up.conductances) == 2


def test_pulses_may_be_counted_on_and_begin_at_1(tmp_path: Path) -> None:
    lines = [f"{number},{line.partition(',')[2]}" for number, line in enumerate(GOOD[1:], start=1)]
    found = read(tmp_path, [GOOD[0], *lines])
    assert found.up.pulses.tolist() == found.down.pulses.tolist() == list(range(1, 10))
    assert found.bounds == (1.0, 9.0)  # ends of ramps; after the first pulse they have begun


@pytest.mark.parametrize("lines", [TWO, [line.rpartition(",")[0] for line in TWO]])
def test_pulses_may_be_counted_on_from_0(tmp_path: Path, lines: list[str]) -> None:
    """As the numbers of the readings: every ramp then begins with its first pulse."""
    counted = [f"{number},{line.partition(',')[2]}" for number, line in enumerate(lines[1:])]
    found = read(tmp_path, [lines[0], *counted])
    assert found.up.pulses.tolist() == found.down.pulses.tolist() == list(range(1, 10))
    assert found.up.conductances.tolist() == [LEVELS, LEVELS]


def test_a_missing_direction_can_be_the_mirror_image(tmp_path: Path) -> None:
    squares = [level**2 for level in LEVELS]
    found = read(tmp_path, [GOOD[0], *lines_of(squares, [])], symmetric=True)
    assert found.mirrored
    np.testing.assert_allclose(found.down.mean, 82 - np.array(squares))
    assert found.bounds == (1.0, 81.0)
    found = read(tmp_path, [GOOD[0], *lines_of([], squares[::-1])], symmetric=True)
    assert found.bounds == (1.0, 81.0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "row 1: needs one column pulse, and has 0.*found: none"),
        (["pulse,conductance"], "row 1: needs one column direction, and has 0.*found: pulse, con"),
        (["pulse,pulse,conductance,direction"], "row 1: needs one column pulse, and has 2"),
        (GOOD[:1], "row 1: no readings follow"),
        (changed(GOOD, 4, "2,3.0,sideways"), "row 4: direction is 'sideways'; allowed are up"),
        (changed(GOOD, 4, "2,3.0"), "row 4: direction is ''"),
        (changed(GOOD, 4, "1.5,3.0,up"), "row 4: pulse is '1.5'; allowed is .* whole number"),
        (changed(GOOD, 4, "-2,3.0,up"), "row 4: pulse is '-2'"),
        (changed(GOOD, 4, "1,3.0,up"), "row 4: pulse 1 comes after pulse 1 of the same ramp"),
        (changed(GOOD, 5, "3,nan,up"), "row 5: conductance is 'nan'; allowed is a number from"),
        (changed(GOOD, 5, "3,inf,up"), "row 5: conductance is 'inf'"),
        (changed(GOOD, 5, "3,,up"), "row 5: conductance is ''"),
        (changed(GOOD, 5, "3,-1e-9,up"), "row 5: conductance is '-1e-9'.*zero of the instrument"),
        (changed(GOOD, 5, "3,4,0,up"), "row 5: has more cells than the header; with dec"),
        (
            [line.replace(",", ";").replace(".0", ",0") for line in GOOD],
            "row 2: conductance is '1,0'; decimals follow a point here",
        ),
        (changed(GOOD, 5, '3,"4,5,up'), "row .*: is not a row of CSV"),
        (changed(GOOD, 5, "3,1e300,up"), "row 5: conductance is '1e300'"),
        (changed(GOOD, 10, "99999,9.0,up"), "row 10: the ramp up ends after 99,999 pulses; allow"),
        (
            changed(changed(GOOD, 10, "8,0.5,up"), 11, None),
            "row 18: the ramps, which end here, end at 0.5 up and at 1 down in the mean",
        ),
        (GOOD[:10], "row 10: ends without a reading in the direction down.*--symmetric"),
        (
            [GOOD[0], *lines_of(LEVELS[:7], LEVELS[6::-1])],
            "row 8: the ramp up ends after 7 readings; a fit needs at least 8",
        ),
        (
            [GOOD[0], *lines_of([2.0] * 9, LEVELS[::-1])],
            "row 10: all readings of the ramp up that ends here are 2;",
        ),
        (
            [GOOD[0], *lines_of(LEVELS[::-1], LEVELS[::-1])],
            "row 10: the ramp up that begins in row 2 does not rise: .* from 8.5 to 1.5, noise 0",
        ),
        (
            [GOOD[0], *lines_of(LEVELS, LEVELS)],
            "row 19: the ramp down that begins in row 11 does not fall",
        ),
        (
            [GOOD[0], *lines_of([1, 9, 2, 7, 1, 8, 2, 9, 3], LEVELS[::-1])],
            "row 10: the ramp up .* does not rise.*noise",
        ),
        (changed(TWO, 28, None), "row 27: the ramp up that ends here has 8 readings, and the fi"),
        (changed(TWO, 28, "9,9.0,up,2"), "row 28: pulse 9 is not in the first ramp up"),
        (changed(TWO, 28, "8,9.0,up,"), "row 28: has no cycle, but other rows have"),
    ],
)  # fmt: skip
def test_refuses_what_it_cannot_use(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"device.csv: {message}"):
        read(tmp_path, lines)


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    with pytest.raises(UserError, match=r"device.csv: cannot be read \(No such file"):
        read_measurement(path)
    path.write_bytes(b"pulse,\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_measurement(path)

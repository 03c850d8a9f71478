"""Readings of a conductance after pulses, from a CSV file, refused where they are of no use."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.device.measurement.ramps import Measurement, Ramps
from mnist_exp.errors import UserError
from mnist_exp.files.regular import read_regular
from mnist_exp.terminal import printable

COLUMNS = ("pulse", "conductance", "direction")
CYCLE = "cycle"
DECIMAL_COMMA = re.compile(r"\d*,\d+([eE][+-]?\d+)?", re.ASCII)
DIRECTIONS = {"up": True, "potentiation": True, "+1": True, "1": True} | dict.fromkeys(
    ("down", "depression", "-1"), False
)
LARGEST_FILE = 1 << 26  # bytes; more than a million readings
FEWEST = 8  # readings of a ramp, for two numbers of its curve and the noise
MOST_PULSES = 10_000  # of a ramp; a fit takes a minute then
LARGEST = 1e30  # conductance, in whatever unit
NOISE_OF_RISE = 3.0  # standard errors by which a curve must rise or fall
GAUSSIAN_MAD = 1.4826  # standard deviation over median absolute deviation


@dataclass(frozen=True)
class _Reading:
    row: int
    pulse: int
    conductance: float
    up: bool
    cycle: str


def read_measurement(path: Path, symmetric: bool = False) -> Measurement:
    """Read a measurement from a CSV file.

    Parameters
    ----------
    path : Path
        With the columns ``pulse`` (number of pulses given before the reading), ``conductance`` (any
        unit), ``direction`` (up or down) and optionally ``cycle``; others are ignored. Separated by
        commas, semicolons or tabs.
    symmetric : bool
        Whether a direction that was not measured is taken to be the mirror image of the other.

    Raises
    ------
    UserError
        If the file cannot be used; the message names the row, the header being row 1.
    """
    try:
        content = read_regular(path, LARGEST_FILE)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason}). Save it as CSV.") from error
    try:
        return _measurement([*_readings(text)], symmetric)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _readings(text: str) -> Iterator[_Reading]:
    header = text.partition("\n")[0]
    separator = next((mark for mark in ",;\t" if mark in header), ",")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        for name in COLUMNS:
            if names.count(name) != 1:
                found = ", ".join(map(printable, names)) or "none"
                raise UserError(
                    f"row 1: needs one column {name}, and has {names.count(name)}. Columns are "
                    f"{', '.join(COLUMNS)} and optionally {CYCLE}; found: {found}."
                )
        for cells in rows:
            if any(map(str.strip, cells.get(None) or ())):
                raise UserError(
                    f"row {rows.line_num}: has more cells than the header; with decimal commas, "
                    "save the file with semicolons or tabs between cells, or with decimal points."
                )
            yield _reading(cells, rows.line_num)
    except csv.Error as error:
        raise UserError(f"row {rows.line_num}: is not a row of CSV ({error}).") from error


def _reading(cells: Mapping[str, Any], row: int) -> _Reading:
    texts = {name: (cells.get(name) or "").strip() for name in (*COLUMNS, CYCLE)}
    direction = DIRECTIONS.get(texts["direction"].lower())
    if direction is None:
        raise UserError(
            f"row {row}: direction is {printable(texts['direction'])!r}; allowed are up, "
            "potentiation, +1, down, depression and -1."
        )
    pulse = _number(texts["pulse"])
    if not (pulse.is_integer() and 0 <= pulse < 1e9):
        raise UserError(
            f"row {row}: pulse is {printable(texts['pulse'])!r}; allowed is the number of pulses "
            "given, a whole number of at least 0."
        )
    if DECIMAL_COMMA.fullmatch(texts["conductance"]):
        raise UserError(
            f"row {row}: conductance is {texts['conductance']!r}; decimals follow a point here. "
            "Save the file with decimal points, or replace the commas."
        )
    conductance = _number(texts["conductance"])
    if not 0 <= conductance <= LARGEST:
        raise UserError(
            f"row {row}: conductance is {printable(texts['conductance'])!r}; allowed is a number "
            f"from 0 to {LARGEST:g}. Leave out rows without a reading, and set those below the "
            "zero of the instrument to 0."
        )
    return _Reading(row, int(pulse), conductance, direction, texts[CYCLE])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _measurement(readings: list[_Reading], symmetric: bool) -> Measurement:
    found: dict[tuple[str, bool], list[_Reading]] = {}
    for reading in _with_cycles(_counted_on(readings)):
        ramp = found.setdefault((reading.cycle, reading.up), [])
        if ramp and reading.pulse <= ramp[-1].pulse:
            raise UserError(
                f"row {reading.row}: pulse {reading.pulse} comes after pulse {ramp[-1].pulse} of "
                "the same ramp; pulses must rise. Number the cycles in a column cycle."
            )
        ramp.append(reading)
    directions = {
        up: _ramps([ramp for (_, of_up), ramp in found.items() if of_up == up], up)
        for up in sorted({up for _, up in found}, reverse=True)
    }
    if not directions:
        raise UserError("row 1: no readings follow.")
    if len(directions) == 2:
        return _with_bounds(Measurement(directions[True], directions[False]), readings)
    (only,) = directions
    if not symmetric:
        missing = "down" if only else "up"
        raise UserError(
            f"row {readings[-1].row}: ends without a reading in the direction {missing}. Measure "
            "both, or give --symmetric to take it as the mirror image."
        )
    measured = Ramps(
        directions[only].pulses - directions[only].pulses[0], directions[only].conductances
    )
    middle = measured.mean[0] + measured.mean[-1]
    mirror = Ramps(measured.pulses, middle - measured.conductances)
    up, down = (measured, mirror) if only else (mirror, measured)
    return _with_bounds(Measurement(up, down, mirrored=True), readings)


def _with_bounds(measurement: Measurement, readings: list[_Reading]) -> Measurement:
    low, high = measurement.bounds
    if low >= high:
        raise UserError(
            f"row {readings[-1].row}: the ramps, which end here, end at {high:.4g} up and at "
            f"{low:.4g} down in the mean over cycles; up must be above down. Leave out the last "
            "readings if they are outliers."
        )
    return measurement


def _counted_on(readings: list[_Reading]) -> list[_Reading]:
    """Return readings whose counter begins at 1 if it runs on through the ramps of all cycles.

    One that begins at 0 numbers the readings: the first ramp would otherwise have a pulse less than
    those of later cycles.
    """
    starts = [
        (last, reading)
        for last, reading in pairwise(readings)
        if (last.up, last.cycle) != (reading.up, reading.cycle)
    ]
    runs_on = len(starts) > 1 and all(last.pulse < first.pulse for last, first in starts)
    if not runs_on or readings[0].pulse != 0:
        return readings
    return [replace(reading, pulse=reading.pulse + 1) for reading in readings]


def _with_cycles(readings: list[_Reading]) -> Iterator[_Reading]:
    """Yield readings; without a column for it, a cycle begins where directions start over."""
    if any(reading.cycle for reading in readings):
        for reading in readings:
            if not reading.cycle:
                raise UserError(f"row {reading.row}: has no cycle, but other rows have.")
            yield reading
        return
    cycle, before = 0, None
    for reading in readings:
        if before is not None and reading.up != before and reading.up == readings[0].up:
            cycle += 1
        before = reading.up
        yield _Reading(reading.row, reading.pulse, reading.conductance, reading.up, str(cycle))


def _ramps(ramps: list[list[_Reading]], up: bool) -> Ramps:
    name = "up" if up else "down"
    first = ramps[0]
    if len(first) < FEWEST:
        raise UserError(
            f"row {first[-1].row}: the ramp {name} ends after {len(first)} readings; a fit needs "
            f"at least {FEWEST}."
        )
    pulses = _counted_from_one(first)
    if pulses[-1] > MOST_PULSES:
        raise UserError(
            f"row {first[-1].row}: the ramp {name} ends after {pulses[-1]:,} pulses; allowed are "
            f"{MOST_PULSES:,}. Leave out rows, or count the pulses in trains of several."
        )
    for ramp in ramps:
        _check_like_the_first(ramp, first, pulses, name)
        if len({reading.conductance for reading in ramp}) == 1:
            raise UserError(
                f"row {ramp[-1].row}: all readings of the ramp {name} that ends here are "
                f"{ramp[0].conductance:g}; a device that does not change cannot be fitted."
            )
    conductances = np.array([[reading.conductance for reading in ramp] for ramp in ramps])
    found = Ramps(pulses, conductances)
    _check_that_it_goes(found, up, first)
    return found


def _counted_from_one(ramp: list[_Reading]) -> npt.NDArray[np.int64]:
    """Return the pulses given within the ramp; those of a file may go on from ramp to ramp."""
    pulses = np.array([reading.pulse for reading in ramp])
    return pulses - max(pulses[0] - 1, 0)


def _check_like_the_first(
    ramp: list[_Reading], first: list[_Reading], pulses: npt.NDArray[np.int64], name: str
) -> None:
    if len(ramp) != len(first):
        raise UserError(
            f"row {ramp[-1].row}: the ramp {name} that ends here has {len(ramp)} readings, and the "
            f"first has {len(first)}; all cycles must have the same pulses. Leave out the cycle, "
            "or the pulses that others lack."
        )
    differing = np.flatnonzero(_counted_from_one(ramp) != pulses)
    if len(differing):
        reading = ramp[differing[0]]
        raise UserError(
            f"row {reading.row}: pulse {reading.pulse} is not in the first ramp {name}; all cycles "
            "must have the same pulses."
        )


def _check_that_it_goes(ramps: Ramps, up: bool, first: list[_Reading]) -> None:
    """Refuse a mean over cycles that does not move in the direction of its pulses.

    The ends are means over a quarter of the readings. Their difference must exceed the noise from
    reading to reading, estimated by the median deviation of the steps.
    """
    mean = ramps.mean
    quarter = len(mean) // 4
    rise = float(mean[-quarter:].mean() - mean[:quarter].mean()) * (1 if up else -1)
    steps = np.diff(mean)
    scatter = GAUSSIAN_MAD * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2)
    if rise <= NOISE_OF_RISE * scatter * math.sqrt(2 / quarter):
        goes, must = ("up", "rise") if up else ("down", "fall")
        raise UserError(
            f"row {first[-1].row}: the ramp {goes} that begins in row {first[0].row} does not "
            f"{must}: its mean over cycles goes from {mean[:quarter].mean():.4g} to "
            f"{mean[-quarter:].mean():.4g}, noise {scatter:.2g}. Check the column direction."
        )

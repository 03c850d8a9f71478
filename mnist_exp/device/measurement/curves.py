"""The curves that are fitted: exponential, soft bounds, and a table of steps.

Conductances are in shares of the measured range here: 0 is its lowest and 1 its highest mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, nnls

from mnist_exp.device.measurement.likelihood import Step, deviance
from mnist_exp.device.measurement.ramps import Array, Measurement, Ramps
from mnist_exp.device.pulses import curve_parameter
from mnist_exp.schema.device_parts import LARGEST_LABEL

STRAIGHT = 1e6  # curve parameter of a label near 0
WIDEST_RANGE = 3.0  # of soft bounds, over the measured range: beyond, they are guesswork
FIRST_SHARE = 0.5  # of the cycle noise in the variance, where the search begins
SLOWEST_RATE = 0.01  # with which the search for soft bounds begins
MOST_KNOTS = 12
INCREMENTS_PER_KNOT = 8
CLOSEST_KNOTS = 0.02  # share of the range
ROUNDS = 5  # of refining where the pulses of the increments began


@dataclass(frozen=True)
class LinearChange:
    """Changes in proportion to a distance: ``rate * (target - x)``, in either direction.

    It is the law of both exponential curves and soft bounds; their targets lie beyond the range, or
    are its bounds. A negative rate is that of steps that grow.
    """

    target_up: float
    rate_up: float
    target_down: float
    rate_down: float

    def __call__(self, x: Array, up: bool) -> tuple[Array, float]:
        """Return the change by a pulse, and its derivative."""
        target, rate = (self.target_up, self.rate_up) if up else (self.target_down, self.rate_down)
        return (target - x) * rate, -rate

    @property
    def origin(self) -> float:
        """Symmetry point: the conductance at which pulses up and down are of one size."""
        weighted = self.rate_up * self.target_up + self.rate_down * self.target_down
        return weighted / (self.rate_up + self.rate_down)


@dataclass(frozen=True)
class TableChange:
    """Changes read from a table: sizes at knots, linear between them, constant beyond."""

    knots: Array
    up: Array
    down: Array

    def __call__(self, x: Array, up: bool) -> tuple[Array, Array]:
        """Return the change by a pulse, and its derivative."""
        sizes = self.up if up else -self.down
        slopes = np.diff(sizes) / np.diff(self.knots)
        place = np.searchsorted(self.knots, x) - 1
        inside = (place >= 0) & (place < len(slopes))
        slope = np.where(inside, slopes[place.clip(0, len(slopes) - 1)], 0.0)
        return np.interp(x, self.knots, sizes), slope


def exponential(label_up: float, label_down: float, pulses: int) -> LinearChange:
    """Return exponential curves of which ``pulses`` span the range from 0 to 1.

    See `mnist_exp.device.pulses`, whose formula is that of a pulse here.
    """
    targets, rates = [], []
    for label, direction in ((label_up, 1), (label_down, -1)):
        A = math.copysign(min(abs(curve_parameter(label)), STRAIGHT), label)
        targets.append(-1 / math.expm1(-1 / A))
        rates.append(-math.expm1(-direction / (A * pulses)))
    return LinearChange(targets[0], rates[0], targets[1], rates[1])


def fit_exponential(measurement: Measurement, pulses: int) -> tuple[float, float, LinearChange]:
    """Return the labels of potentiation and depression that make the readings most likely."""

    def curve(numbers: Array) -> LinearChange:
        return exponential(numbers[0], numbers[1], pulses)

    bounds = [(-LARGEST_LABEL, LARGEST_LABEL)] * 2
    starts = [np.array([up, down]) for up in (-2.0, 2.0) for down in (-2.0, 2.0)]
    start = min(starts, key=lambda x: deviance(measurement, curve(x), FIRST_SHARE)[0])
    up, down = _most_likely(measurement, curve, start, bounds)
    return up, down, exponential(up, down, pulses)


def fit_soft_bounds(measurement: Measurement, start: LinearChange) -> LinearChange | None:
    """Return the soft bounds that make the readings most likely.

    None if the steps shrink so little toward a bound that it would lie far beyond the readings.
    ``start`` is the exponential curve.
    """
    far = WIDEST_RANGE
    first = [
        min(start.target_up, far) if start.rate_up > 0 else far,
        max(start.rate_up, SLOWEST_RATE),
        max(start.target_down, 1 - far) if start.rate_down > 0 else 1 - far,
        max(start.rate_down, SLOWEST_RATE),
    ]
    bounds = [(0.5, far), (1e-6, 1.0), (1 - far, 0.5), (1e-6, 1.0)]
    found = LinearChange(*_most_likely(measurement, lambda x: LinearChange(*x), first, bounds))
    return found if found.target_up - found.target_down < far else None


def fit_table(measurement: Measurement, share: float) -> TableChange:
    """Return a table of steps by least squares, at knots between which the readings lie.

    ``share`` is that of the cycle noise in the variance of the noise.
    """
    ramps = ((measurement.up, 1), (measurement.down, -1))
    knots = _knots(np.concatenate([each.conductances.ravel() for each, _ in ramps]), measurement)
    up, down = (_table(each, direction, knots, share) for each, direction in ramps)
    return TableChange(knots, up, down)


def _most_likely(
    measurement: Measurement,
    curve: Callable[[Array], Step],
    start: Array | list[float],
    bounds: list[tuple[float, float]],
) -> list[float]:
    """Return the numbers of the curve that make the readings most likely, whatever the noise."""
    found = minimize(
        lambda x: deviance(measurement, curve(x[:-1]), x[-1])[0],
        [*start, FIRST_SHARE],
        method="Nelder-Mead",
        bounds=[*bounds, (0.0, 1.0)],
        options={"xatol": 2e-3, "fatol": 2e-2, "maxiter": 2000, "maxfev": 2000},
    )
    return [float(number) for number in found.x[:-1]]


def _knots(readings: Array, measurement: Measurement) -> Array:
    """Return the ends of the range and quantiles of the readings between them, not too close."""
    increments = min(each.conductances[:, 1:].size for each in (measurement.up, measurement.down))
    count = int(np.clip(increments // INCREMENTS_PER_KNOT, 2, MOST_KNOTS))
    knots = [0.0]
    for knot in np.quantile(readings, np.linspace(0, 1, count)[1:-1]):
        if knots[-1] + CLOSEST_KNOTS <= knot <= 1 - CLOSEST_KNOTS:
            knots.append(float(knot))
    return np.array([*knots, 1.0])


def _table(ramps: Ramps, direction: int, knots: Array, share: float) -> Array:
    """Return sizes of steps at knots, at least 0, by least squares on the increments.

    Noise of the reading before a pulse enters its increment too, with the other sign, and cycle
    noise enters the reading after it. The point between both readings whose noise does not
    correlate with that of the increment is a share (1 - s) / (2 - s) of the increment after the
    first, for s the cycle noise's share of the variance. What this adds on average is taken off
    again.
    """
    y = ramps.conductances
    counts = np.diff(ramps.pulses)
    increments = np.diff(y, axis=1)
    sizes = direction * increments / counts
    between = (1 - share) / (2 - share)
    found = np.full(len(knots), max(float(sizes.mean()), 0.0))
    hats = np.eye(len(knots))
    for _ in range(ROUNDS):
        first = y[:, :-1] + between * (
            increments - direction * counts * _at(y[:, :-1], knots, found)
        )
        middle = first + direction * (counts - 1) / 2 * _at(first, knots, found)
        design = np.stack([np.interp(middle.ravel(), knots, hat) for hat in hats], axis=1)
        found, _ = nnls(design, sizes.ravel())
    return found


def _at(x: Array, knots: Array, sizes: Array) -> Array:
    return np.interp(x, knots, sizes)

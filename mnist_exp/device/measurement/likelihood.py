"""How likely a curve makes the readings, with noise of pulses told apart from noise of readings.

The conductance x moves by ``x <- x + change(x) + cycle noise`` with every pulse; a reading is
``y = x + read noise``; both are independent and normal. Cycle noise stays in the device, read noise
is gone with the next reading, so that neighbouring increments are anticorrelated by read noise
alone. The likelihood of such a process is that of its innovations, which a Kalman filter yields;
where the change is not linear in x, the filter is extended (R. E. Kalman, J. Basic Eng. 82:35,
1960; A. C. Harvey, "Forecasting, structural time series models and the Kalman filter", 1989,
section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mnist_exp.device.measurement.ramps import Array, Measurement, Ramps

# Change by a pulse and its derivative, at conductances x [cycles], in the direction "up".
Step = Callable[[Array, bool], tuple[Array, float | Array]]

LEAST_VARIANCE = (
    1e-18  # of the share of the range: readings without any noise have a likelihood too
)
SEPARABLE = 3.84  # in -2 log L: the 5 % point of chi squared with one degree of freedom


@dataclass(frozen=True)
class Noise:
    """Noise that a curve leaves, with ``deviance = -2 log L`` up to a constant.

    Parameters
    ----------
    cycle, read : float
        Standard deviations of a pulse and of a reading, in units of the readings.
    deviance : float
        Of the curve with this noise.
    separable : bool
        Whether the readings tell the two apart; otherwise all noise counts as cycle noise.
    """

    cycle: float
    read: float
    deviance: float
    separable: bool


def innovations(ramps: Ramps, up: bool, step: Step, share: float) -> tuple[Array, Array]:
    """Return what each reading adds to its prediction, and its variance, [cycles, n - 1] each.

    Parameters
    ----------
    ramps : Ramps
        Readings; where a ramp begins is taken from its first reading.
    up : bool
        Their direction.
    step : callable
        The curve.
    share : float
        Variance of a pulse, in [0, 1]; that of a reading is ``1 - share``.
    """
    readings = ramps.conductances
    x, P = readings[:, 0], 1 - share
    found, variances = [], []
    for number, count in enumerate(np.diff(ramps.pulses), start=1):
        for _ in range(count):
            change, slope = step(x, up)
            x = x + change
            P = (1 + slope) ** 2 * P + share  # type: ignore[assignment]
        F = P + (1 - share)
        innovation = readings[:, number] - x
        x = x + P / F * innovation
        P = P * (1 - share) / F
        found.append(innovation)
        variances.append(np.broadcast_to(F, innovation.shape))
    return np.stack(found, axis=1), np.stack(variances, axis=1)


def deviance(measurement: Measurement, step: Step, share: float) -> tuple[float, float]:
    """Return ``-2 log L`` up to a constant, and the variance of pulse and reading together.

    The variance is the one that makes the readings most likely.
    """
    directions = ((measurement.up, True), (measurement.down, False))
    parts = [innovations(ramps, up, step, share) for ramps, up in directions]
    v = np.concatenate([each.ravel() for each, _ in parts])
    F = np.concatenate([each.ravel() for _, each in parts])
    variance = float((v**2 / F).mean())
    if not math.isfinite(variance):  # a curve that runs away
        return math.inf, math.inf
    variance += LEAST_VARIANCE
    value = len(v) * math.log(variance) + float(np.log(F).sum())
    return value * innovation_count(measurement) / len(v), variance


def noise_of(measurement: Measurement, step: Step, numbers: int) -> Noise:
    """Return the noise that makes the readings most likely, given a curve.

    ``numbers`` is how many numbers of the curve were fitted to the same readings; it corrects the
    variance for them.
    """
    best = minimize_scalar(
        lambda share: deviance(measurement, step, share)[0], bounds=(0, 1), method="bounded"
    )
    alone, _ = deviance(measurement, step, 1.0)  # cycle noise
    separable = bool(alone - best.fun > SEPARABLE)
    share = float(best.x) if separable else 1.0
    value, variance = deviance(measurement, step, share)
    count = innovation_count(measurement)
    variance = (variance - LEAST_VARIANCE) * count / max(count - numbers, 1)
    return Noise(math.sqrt(share * variance), math.sqrt((1 - share) * variance), value, separable)


def innovation_count(measurement: Measurement) -> int:
    """Return how many readings are predicted: all but the first of each ramp.

    The mirror image of a direction adds none.
    """
    counts = [ramps.conductances[:, 1:].size for ramps in (measurement.up, measurement.down)]
    return counts[0] if measurement.mirrored else sum(counts)

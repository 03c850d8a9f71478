"""A measured device fitted with each curve, how well, and which curve to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnist_exp.device.measurement.curves import (
    WIDEST_RANGE,
    LinearChange,
    TableChange,
    exponential,
    fit_exponential,
    fit_soft_bounds,
    fit_table,
)
from mnist_exp.device.measurement.likelihood import Noise, innovation_count, noise_of
from mnist_exp.device.measurement.ramps import Array, Measurement, Ramps
from mnist_exp.errors import UserError
from mnist_exp.schema.device_parts import FITTED_CURVES


@dataclass(frozen=True)
class Quality:
    """How well a curve without noise follows the readings of a direction.

    Parameters
    ----------
    r_squared : float
        Share of the variance of the readings that the curve explains.
    rms : float
        Root mean square of readings minus curve, as a share of the range.
    rms_of_mean : float
        The same of the mean over cycles, whose noise is smaller.
    """

    r_squared: float
    rms: float
    rms_of_mean: float


@dataclass(frozen=True)
class Fit:
    """A curve fitted to a measurement.

    Parameters
    ----------
    curve : {"exponential", "soft_bounds", "table"}
        Its name.
    measurement : Measurement
        The readings, in their own unit.
    change : LinearChange or TableChange
        The curve, with conductances in shares of the measured range.
    noise : Noise
        What it leaves, in shares of the measured range.
    numbers : int
        How many numbers were fitted.
    labels : tuple of float or None
        Of exponential curves: the labels of potentiation and depression.
    """

    curve: str
    measurement: Measurement
    change: LinearChange | TableChange
    noise: Noise
    numbers: int
    labels: tuple[float, float] | None = None

    @property
    def criterion(self) -> float:
        """Bayesian information criterion, up to a constant: smaller is better.

        ``-2 log L + numbers * log(readings)``: G. Schwarz, Ann. Statist. 6:461, 1978.
        """
        return self.noise.deviance + self.numbers * math.log(innovation_count(self.measurement))

    def path(self, up: bool) -> Array:
        """Return the curve without noise at the pulses of a ramp [n], in the readings' unit."""
        low, high = self.measurement.bounds
        pulses = self._ramps(up).pulses
        x, found = np.array([0.0 if up else 1.0]), []
        for _ in range(int(pulses[-1]) + 1):
            found.append(x[0])
            x = x + self.change(x, up)[0]
        return low + (high - low) * np.array(found)[pulses]

    def residuals(self, up: bool) -> Array:
        """Return readings minus curve, [cycles, n], in shares of the range."""
        low, high = self.measurement.bounds
        shares: Array = (self._ramps(up).conductances - self.path(up)) / (high - low)
        return shares

    def quality(self, up: bool) -> Quality:
        """Return how well the curve follows the readings of a direction."""
        low, high = self.measurement.bounds
        residuals = self.residuals(up)
        variance = float(self._ramps(up).conductances.var()) / (high - low) ** 2
        return Quality(
            1 - float((residuals**2).mean()) / variance,
            math.sqrt(float((residuals**2).mean())),
            math.sqrt(float((residuals.mean(axis=0) ** 2).mean())),
        )

    def _ramps(self, up: bool) -> Ramps:
        return self.measurement.up if up else self.measurement.down


def fit_curves(measurement: Measurement, curves: Sequence[str] = FITTED_CURVES) -> list[Fit]:
    """Fit curves to a measurement.

    Parameters
    ----------
    measurement : Measurement
        Readings.
    curves : sequence of str
        Some of `FITTED_CURVES`. Of several, those that the readings rule out are left out.

    Returns
    -------
    list of Fit
        The best first, by `Fit.criterion`; curves of one law are not told apart by less than their
        numbers cost, so that the exponential curve comes before soft bounds.

    Raises
    ------
    UserError
        If the only curve asked for is ruled out.
    """
    shares = measurement.in_shares_of_the_range()
    up, down, change = fit_exponential(shares, measurement.pulses)
    labels = round(up, 3), round(down, 3)
    change = exponential(*labels, measurement.pulses)
    noise = noise_of(shares, change, 2)
    found = [Fit("exponential", measurement, change, noise, 2, labels)]
    if "soft_bounds" in curves:
        soft = fit_soft_bounds(shares, change)
        if soft is not None:
            found.append(Fit("soft_bounds", measurement, soft, noise_of(shares, soft, 4), 4))
        elif len(curves) == 1:
            raise UserError(
                "--curve soft_bounds: the steps shrink so little that their bounds would lie "
                f"{WIDEST_RANGE:g} times as far apart as the readings; take exponential or table."
            )
    if "table" in curves:
        variance = noise.cycle**2 + noise.read**2
        table = fit_table(shares, noise.cycle**2 / variance if variance > 0 else 1.0)
        numbers = 2 * len(table.knots)
        found.append(Fit("table", measurement, table, noise_of(shares, table, numbers), numbers))
    return sorted((fit for fit in found if fit.curve in curves), key=lambda fit: fit.criterion)

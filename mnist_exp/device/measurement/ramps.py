"""A measurement: ramps of pulses in both directions, repeated in cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ramps:
    """Pulses in one direction, repeated in every cycle.

    Parameters
    ----------
    pulses : ndarray
        Pulses given in the ramp before each reading, rising, int [n].
    conductances : ndarray
        Readings, [cycles, n].
    """

    pulses: npt.NDArray[np.int64]
    conductances: Array

    @property
    def mean(self) -> Array:
        """Mean over cycles, [n]."""
        return self.conductances.mean(axis=0)


@dataclass(frozen=True)
class Measurement:
    """Potentiation and depression of a device.

    Parameters
    ----------
    up, down : Ramps
        Readings in either direction.
    mirrored : bool
        Whether one direction was not measured, but is the mirror image of the other.
    """

    up: Ramps
    down: Ramps
    mirrored: bool = False

    @property
    def pulses(self) -> int:
        """Pulses of a ramp; the mean of both directions where they differ."""
        return round((int(self.up.pulses[-1]) + int(self.down.pulses[-1])) / 2)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest conductance: means over cycles of where the ramps begin and end.

        A reading after the first pulse is no beginning.
        """
        low, high = [self.down.conductances[:, -1]], [self.up.conductances[:, -1]]
        if self.up.pulses[0] == 0:
            low.append(self.up.conductances[:, 0])
        if self.down.pulses[0] == 0:
            high.append(self.down.conductances[:, 0])
        return float(np.mean(np.concatenate(low))), float(np.mean(np.concatenate(high)))

    def in_shares_of_the_range(self) -> Measurement:
        """Return the measurement with its bounds at 0 and 1."""
        low, high = self.bounds
        up, down = (
            Ramps(each.pulses, (each.conductances - low) / (high - low))
            for each in (self.up, self.down)
        )
        return Measurement(up, down, self.mirrored)

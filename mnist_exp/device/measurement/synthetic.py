"""A synthetic measurement: a device whose numbers are known."""

from __future__ import annotations

import math

import numpy as np

from mnist_exp.device.measurement.ramps import Array
from mnist_exp.device.pulses import curve_parameter

# A device of 64 states between 0.4 and 4 microsiemens.
EXAMPLE = {"label_up": 2.4, "label_down": -3.2, "W_min": 0.4e-6, "W_max": 4e-6, "pulses": 63}
EXAMPLE_NOISE = {"cycle_noise": 0.01, "read_noise": 0.01, "cycles": 8, "seed": 0}


def synthetic_ramps(
    label_up: float,
    label_down: float,
    *,
    W_min: float = 0.0,
    W_max: float = 1.0,
    pulses: int = 63,
    cycle_noise: float = 0.0,
    read_noise: float = 0.0,
    cycles: int = 1,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Return readings of ramps up and down, [cycles, pulses + 1] each.

    A ramp begins at its bound, with pulse 0. A pulse moves the conductance along an exponential
    curve that ``pulses`` of them span (`mnist_exp.device.pulses`)::

        G <- G + (S - G) (1 - exp(-d / (A pulses))) + cycle_noise (W_max - W_min) xi
        S = W_min + (W_max - W_min) / (1 - exp(-1 / A))

    with d = 1 up and -1 down, and A the curve parameter of the direction's label. A reading adds
    ``read_noise (W_max - W_min) xi``. All xi are standard normal and independent.
    """
    random = np.random.default_rng(seed)
    extent = W_max - W_min
    found = []
    for label, direction in ((label_up, 1), (label_down, -1)):
        A = curve_parameter(label) if label else 1e6  # nearly a straight line
        S = W_min + extent / -math.expm1(-1 / A)
        G = np.full(cycles, W_min if direction > 0 else W_max)
        ramp = [G]
        for _ in range(pulses):
            G = G - (S - G) * math.expm1(-direction / (A * pulses))
            G = G + cycle_noise * extent * random.standard_normal(cycles)
            ramp.append(G)
        readings = np.stack(ramp, axis=1)
        readings = readings + read_noise * extent * random.standard_normal(readings.shape)
        found.append(readings)
    return found[0], found[1]


def csv_of(up: Array, down: Array) -> str:
    """Return ramps [cycles, n], whose first reading is that of pulse 0, as the text of a CSV file.

    Conductances are cut off at 0, as an instrument would.
    """
    lines = ["cycle,direction,pulse,conductance"]
    for cycle, ramps in enumerate(zip(up, down, strict=True), start=1):
        for direction, ramp in zip(("up", "down"), ramps, strict=True):
            lines += [
                f"{cycle},{direction},{pulse},{max(conductance, 0.0):.6g}"
                for pulse, conductance in enumerate(ramp)
            ]
    return "\n".join(lines) + "\n"


def example_csv() -> str:
    """Return the example: eight cycles of the device `EXAMPLE` with noise `EXAMPLE_NOISE`."""
    return csv_of(*synthetic_ramps(**EXAMPLE, **EXAMPLE_NOISE))  # type: ignore[arg-type]

"""Programming with pulses: exponential conductance curves and write noise.

The model and its numbers follow P.-Y. Chen, X. Peng, S. Yu, "NeuroSim: A circuit-level macro model
for benchmarking neuro-inspired architectures in online learning", IEEE TCAD 37(12), 2018, and the
manual of MLP+NeuroSim V3.0: p potentiating pulses from the lowest conductance give
``G(p) = B (1 - exp(-p / A)) + W_min`` with ``B = (W_max - W_min) / (1 - exp(-N / A))``, N pulses
spanning the range. Here A is given in units of N.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Number = float | Tensor

# A curve's label is its largest perpendicular distance from the straight line in the unit square,
# in units of 0.07. This reproduces the entries of NeuroSim's table listed in the tests, 0.01 to 9.
LABEL_UNIT = 0.07 * math.sqrt(2.0)


def curve_parameter(label: float) -> float:
    """Return the curve parameter A of a nonlinearity label, in units of the N pulses.

    Parameters
    ----------
    label : float
        Nonlinearity label in [-9, 9]; 0 is a straight line. With a positive label conductance
        changes fast near ``W_min`` and saturates near ``W_max``; with a negative one it is the
        other way round. Depression runs down its curve, so a typical device, whose depression is
        fast near ``W_max``, has a negative depression label.

    Returns
    -------
    float
        A, with the sign of the label; infinite for label 0.
    """
    if label == 0:
        return math.inf
    wanted = abs(label) * LABEL_UNIT
    low, high = 1e-3, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _deviation(middle) > wanted else (low, middle)
    return math.copysign(high, label)


def _deviation(A: float) -> float:
    """Largest distance between the normalised curve and the straight line, along y."""
    scale = -math.expm1(-1.0 / A)
    # the slope exp(-x / A) / (A scale) is 1 at x = -A ln(A scale)
    return 1.0 / scale - A + A * math.log(A * scale)


def apply_pulses(
    w: Tensor, pulses: Tensor, A: Number, W_min: Number, W_max: Number, span: Number
) -> Tensor:
    """Return conductances after ``pulses`` steps along a curve.

    Parameters
    ----------
    w : Tensor
        Conductances.
    pulses : Tensor
        Number of pulses, positive up and negative down the curve; may be fractional.
    A : float or Tensor
        Curve parameter in units of ``span``; an infinite float is a straight line.
    W_min, W_max : float or Tensor
        Bounds of the conductance.
    span : float or Tensor
        Pulses from one bound to the other, N.

    Notes
    -----
    With ``G = W_min + B (1 - exp(-x / A))`` solved for the position x, a move by p is
    ``G + (W_min + B - G) (1 - exp(-p / A))``. The result may leave the bounds.
    """
    share = pulses / span
    if isinstance(A, float) and math.isinf(A):
        return w + (W_max - W_min) * share
    curvature = torch.as_tensor(A, dtype=w.dtype, device=w.device)
    saturation = W_min + (W_max - W_min) / -torch.expm1(-1.0 / curvature)
    return w - (saturation - w) * torch.expm1(-share / curvature)


def program(
    w: Tensor,
    pulses: Tensor,
    A_ltp: Number,
    A_ltd: Number,
    W_min: Number,
    W_max: Number,
    span: Number,
) -> Tensor:
    """Apply positive pulses along the potentiation curve, negative ones along the depression curve.

    Parameters as in `apply_pulses`; ``A_ltd`` carries the sign of the depression label.
    """
    up = apply_pulses(w, pulses, A_ltp, W_min, W_max, span)
    down = apply_pulses(w, pulses, A_ltd, W_min, W_max, span)
    return torch.where(pulses > 0, up, down)


def accumulate_pulses(asked: Tensor, remainder: Tensor) -> Tensor:
    """Return the whole pulses of an update, and keep the rest in a digital accumulator.

    The mixed-precision scheme of S. R. Nandakumar et al., "Mixed-precision deep learning based on
    computational memory", Front. Neurosci. 14:406, 2020: the accumulator sums the updates asked
    for, and whenever it holds whole pulses, these are given to the device and taken out of it.
    What the device makes of a pulse is not fed back: a pulse that a device at its bound cannot
    follow is spent.

    Parameters
    ----------
    asked : Tensor
        Update in pulses, positive up; fractional.
    remainder : Tensor
        The accumulator, in pulses, of the same shape; changed in place. Afterwards
        ``|remainder| < 1``.

    Returns
    -------
    Tensor
        Whole pulses, rounded toward zero.
    """
    remainder += asked
    pulses = remainder.trunc()
    remainder -= pulses
    return pulses


def write_noise(pulses: Tensor, normal: Tensor, sigma: Number, W_range: Number) -> Tensor:
    """Return the random conductance change of a write (cycle-to-cycle noise).

    Parameters
    ----------
    pulses : Tensor
        Pulses applied. Their noise is independent, so it grows with the square root.
    normal : Tensor
        Standard normal numbers of the same shape.
    sigma : float or Tensor
        Standard deviation of one pulse, as a share of the conductance range.
    W_range : float or Tensor
        ``W_max - W_min``.
    """
    return normal * pulses.abs().sqrt() * (sigma * W_range)

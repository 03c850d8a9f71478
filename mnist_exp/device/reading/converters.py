"""Converters of an array: digital numbers to voltages on its rows, currents back to numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_RANGE = 2.0**-100  # of a vector; of a smaller one, steps / range could be infinite


class Driven(NamedTuple):
    """Inputs as voltages; the inputs they stand for are ``voltages * scale``.

    Attributes
    ----------
    voltages : Tensor
        [..., in], in ``unit``.
    unit : float
        As a share of the largest voltage.
    scale : float or Tensor [..., 1]
        Input at the largest voltage, divided by it in ``unit``.
    """

    voltages: Tensor
    unit: float
    scale: float | Tensor


def steps_of(bits: int | None, signed: bool = True) -> int:
    """Return a converter's steps above 0, of which one bit is the sign; None, any number: 1."""
    return 1 if bits is None else 2 ** (bits - signed) - 1


def drive(inputs: Tensor, bits: int | None, full_scale: float | str | None, signed: bool) -> Driven:
    """Convert inputs [..., in] to voltages.

    Parameters
    ----------
    inputs : Tensor
        Numbers.
    bits : int or None
        Of the voltages, sign included: ``2**(bits - 1) - 1`` steps either way, or ``2**bits - 1``
        from 0 without sign. None: any voltage. Halfway between two, it is the upper one.
    full_scale : float, "abs_max" or None
        Input at the largest voltage, beyond which inputs are clipped; "abs_max": of each vector its
        own largest absolute value, or `SMALLEST_RANGE`; 1 for a vector of zeros. None: 1, without
        clipping.
    signed : bool
        Whether voltages may be negative; otherwise negative inputs are clipped to 0.
    """
    steps = steps_of(bits, signed)
    size: float | Tensor = 1.0
    if full_scale == "abs_max":
        size = inputs.abs().amax(-1, keepdim=True) if inputs.shape[-1] else 1.0
        if isinstance(size, Tensor):
            size = torch.where(size > 0, size.clamp(min=SMALLEST_RANGE), 1.0)
    elif full_scale is not None:
        size = float(full_scale)
    factor = steps / size
    voltages = inputs * factor
    if bits is not None:
        voltages.add_(0.5).floor_()
    if full_scale not in (None, "abs_max"):
        voltages.clamp_(-steps if signed else 0, steps)
    elif not signed:
        voltages.clamp_(min=0)
    return Driven(voltages, 1 / steps, size / steps)


def convert(currents: Tensor, bits: int | None, full_scale: float | None) -> Tensor:
    """Convert currents, in any unit, to numbers; may change them in place.

    ``bits`` as in `drive`, with sign; beyond ``full_scale`` currents are clipped; None: not.
    """
    if full_scale is None:
        return currents
    if bits is None:
        return currents.clamp_(-full_scale, full_scale)
    steps = steps_of(bits)
    digits = currents.mul_(steps / full_scale).add_(0.5).floor_()
    return digits.clamp_(-steps, steps).mul_(full_scale / steps)

"""Rounding conductances to the evenly spaced levels of a device.

``W_min``, ``W_max`` and ``levels`` may be numbers or tensors that broadcast, such as per-device
bounds or a leading replica dimension. ``out`` is as in torch: pass the input to work in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

Number = float | Tensor


def at(number: Number, devices: Tensor) -> Number:
    """Return the numbers of some devices, given by their indices; one number is that of all."""
    return number.index_select(0, devices) if isinstance(number, Tensor) else number


def level_distance(W_min: Number, W_max: Number, levels: Number) -> Number:
    """Return the distance D between neighbouring levels."""
    return (W_max - W_min) / (levels - 1)


def line_of_levels(
    W_min: Number, step: Number, retention: float, target: Number
) -> tuple[Number, Number]:
    """Return offset and slope of the unrounded level as a function of the conductance ``w``.

    The level is that of ``retain(w, retention, target)`` at a level distance of ``step``.
    """
    return (retention * target - W_min) / step, (1 - retention) / step


def clip(w: Tensor, W_min: Number, W_max: Number, out: Tensor | None = None) -> Tensor:
    """Limit conductances to [W_min, W_max]."""
    if isinstance(W_min, Tensor) or isinstance(W_max, Tensor):
        low, high = (torch.as_tensor(bound).to(w) for bound in (W_min, W_max))
        return torch.clamp(w, low, high, out=out)
    return torch.clamp(w, W_min, W_max, out=out)


def quantize_nearest(
    w: Tensor,
    W_min: Number,
    W_max: Number,
    levels: Number,
    retention: float = 0.0,
    target: Number = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Round ``retain(w, retention, target)`` to the nearest level; ties go to the even one.

    Values beyond the bounds end on the outermost levels, so clipping first changes nothing. The
    retention costs no extra pass.
    """
    step = level_distance(W_min, W_max, levels)
    line = line_of_levels(W_min, step, retention, target)
    return _on_level(_line(*line, w, out).round_(), W_min, W_max, step)


def quantize_stochastic(
    w: Tensor,
    uniform: Tensor,
    W_min: Number,
    W_max: Number,
    levels: Number,
    retention: float = 0.0,
    target: Number = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Round up or down at random; within the bounds the expected result is the exact value.

    Parameters
    ----------
    w : Tensor
        Conductances.
    uniform : Tensor
        Random numbers in [0, 1) of the same shape: a value at fraction f between two levels is
        rounded up where ``uniform >= 1 - f``.
    retention, target
        The exact value is ``retain(w, retention, target)``; it costs no extra pass.
    """
    step = level_distance(W_min, W_max, levels)
    offset, slope = line_of_levels(W_min, step, retention, target)
    level = _line(uniform, slope, w, out).add_(offset).floor_()
    return _on_level(level, W_min, W_max, step)


def _line(offset: Number, slope: Number, x: Tensor, out: Tensor | None) -> Tensor:
    """Return ``offset + slope * x`` in one pass."""
    if not isinstance(offset, Tensor):
        offset = torch.tensor(offset, dtype=x.dtype, device="cpu")  # works on any device
    offset = offset.to(x.dtype)
    if isinstance(slope, Tensor):
        return torch.addcmul(offset.to(x), x, slope, out=out)
    return torch.add(offset, x, alpha=slope, out=out)


def _on_level(level: Tensor, W_min: Number, W_max: Number, step: Number) -> Tensor:
    """Turn level indices into conductances within the bounds, in place."""
    return clip(_line(W_min, step, level, out=level), W_min, W_max, out=level)


def quantize_accumulate(
    w: Tensor, remainder: Tensor, W_min: Number, W_max: Number, levels: Number
) -> tuple[Tensor, Tensor]:
    """Round to the nearest level and keep the remainder in a digital accumulator.

    Returns
    -------
    quantized, remainder : Tensor
        Their sum is ``clip(w + remainder)``: no update is lost, however small.
    """
    exact = clip(w + remainder, W_min, W_max)
    quantized = quantize_nearest(exact, W_min, W_max, levels)
    return quantized, exact - quantized

"""Pulses given to devices one at a time, by the compiled kernels.

There is no other way here: where a function returns False, the caller's own, in torch operations,
does the same with other random numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mnist_exp.cpu.kernels import interface, library
from mnist_exp.cpu.kernels.boundary import are_plain, are_recorded, changed, is_plain
from mnist_exp.cpu.threads import available

Number = float | Tensor  # of all devices, or of each, float32 [devices]
SHAPES = ("line", "exponential", "power")
MOST_OUTPUTS = 1 << 16  # of a layer; its scratch space is on the stack
ROUNDINGS = ("nearest", "stochastic", "accumulate")


@dataclass(frozen=True)
class Direction:
    """Numbers of pulses in one direction.

    With ``line = constant + slope * w``, the shape of a pulse is the line, ``1 - third *
    exp(line)``, or ``line ** third`` with the line limited to [0, 1]. ``scale`` is the change of w
    by a pulse of shape 1, negative down.
    """

    scale: Number
    constant: Number
    slope: Number
    third: Number = 0.0


@dataclass(eq=False)
class StepDevices:
    """Devices of which a pulse adds ``scale * (max(shape, 0) * (1 + noise) + offset + noise)``.

    Parameters
    ----------
    shape : {"line", "exponential", "power"}
        See `Direction`.
    W_min, W_max : float or Tensor
        Bounds that cut off every pulse.
    up, down : Direction
        Pulses of either direction.
    offset : float or Tensor
        What is added to the shape.
    step_noise, offset_noise : float
        Standard deviations of a pulse's noise, relative to the shape and added to it.
    write_noise : float
        Standard deviation of the difference between a conductance read and the one written.
    write_offset : Tensor or None
        That difference, [devices]; changed in place.
    most : int
        Pulses that a device gets at once, up to 2**24.
    up_only : bool
        Whether pulses down are dropped.
    """

    shape: str
    W_min: Number
    W_max: Number
    up: Direction
    down: Direction
    offset: Number
    step_noise: float
    offset_noise: float
    write_noise: float
    write_offset: Tensor | None
    most: int
    up_only: bool

    def __post_init__(self) -> None:
        self.in_c = self._in_c()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the addresses, which hold for these tensors alone."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the addresses of a copy's own tensors."""
        vars(self).update(state)
        self.in_c = self._in_c()

    def _in_c(self) -> interface.StepDevices | None:
        """Return the same for the kernels; None if they cannot take a tensor."""
        found = interface.StepDevices(
            shape=SHAPES.index(self.shape), most=self.most, up_only=self.up_only,
            step_noise=self.step_noise, offset_noise=self.offset_noise,
            write_noise=self.write_noise, write_offset=_address(self.write_offset),
        )  # fmt: skip
        numbers = [(found, name, getattr(self, name)) for name in ("W_min", "W_max", "offset")]
        for place, direction in ((found.up, self.up), (found.down, self.down)):
            numbers += [(place, f.name, getattr(direction, f.name)) for f in fields(direction)]
        tensors = [number for *_, number in numbers if isinstance(number, Tensor)]
        if self.write_offset is not None:
            tensors.append(self.write_offset)
        self.sizes = {tensor.shape for tensor in tensors}
        if not are_plain(*tensors):
            return None
        for structure, name, number in numbers:
            one = (number.data_ptr(), 0.0) if isinstance(number, Tensor) else (None, float(number))
            setattr(structure, name, interface.Number(*one))
        return found


def program_batch(
    devices: StepDevices,
    w: Tensor,
    before: Tensor,
    D: float,
    rounding: str,
    seed: Callable[[], int],
    *,
    factor: Tensor | None = None,
    remainder: Tensor | None = None,
    counts: Tensor | None = None,
) -> bool:
    """Let ``w`` be what devices at ``before`` make of pulses for the change; return if it was done.

    Parameters
    ----------
    devices : StepDevices
        All of the devices.
    w, before : Tensor
        Conductances asked for, changed in place, and those of the devices, [devices].
    D : float
        ``(w - before) * factor / D`` pulses are asked for.
    rounding : {"nearest", "stochastic", "accumulate"}
        To whole pulses; the last toward zero, together with the remainder.
    seed : callable
        Returns 64 random bits; called once if it is done.
    factor : Tensor or None
        [devices]; None: 1.
    remainder : Tensor or None
        The accumulator, [devices], changed in place.
    counts : Tensor or None
        int32 [devices]; pulses are added.
    """
    kernels, in_c = library.compiled(), _counting(devices, w, counts)
    given = [t for t in (factor, remainder) if t is not None]
    if kernels is None or in_c is None or not _fit(w, before, *given):
        return False
    changed(w, *([] if remainder is None else [remainder]))
    addresses = (w.data_ptr(), before.data_ptr(), _address(factor), _address(remainder))
    rest = (len(w), D, ROUNDINGS.index(rounding), seed(), available())
    kernels.library.program_batch(ctypes.byref(in_c), *addresses, *rest)
    return True


def program_samples(
    devices: StepDevices,
    w: Tensor,
    first: int,
    inputs: Tensor,
    errors: Tensor,
    slope: float,
    ratio: float,
    rounding: str,
    seed: Callable[[], int],
    *,
    factor: Tensor | None = None,
    counts: Tensor | None = None,
) -> bool:
    """Give devices the pulses of one sample after the other; return whether it was done.

    A sample asks for ``slope * error * input * factor`` pulses, ``ratio`` times as many where that
    is below 0.

    Parameters
    ----------
    devices : StepDevices
        All of the devices.
    w : Tensor
        Their conductances, [devices]; changed in place.
    first : int
        The first of the devices of a layer, of which each output has one for each input.
    inputs, errors : Tensor
        [samples, inputs] and [samples, outputs].
    slope, ratio : float
        Factors.
    rounding : {"nearest", "stochastic"}
        To whole pulses.
    seed, factor, counts
        As in `program_batch`.
    """
    kernels, in_c = library.compiled(), _counting(devices, w, counts)
    if kernels is None or in_c is None or not _fit(w, *([] if factor is None else [factor])):
        return False
    errors = errors.t().contiguous()
    count = inputs.shape[1] * len(errors)
    fits = len(w[first : first + count]) == count and len(inputs) == errors.shape[1]
    if not fits or len(errors) > MOST_OUTPUTS or not are_plain(inputs, errors):
        return False
    changed(w)
    addresses = (_address(factor), inputs.data_ptr(), errors.data_ptr())
    sizes = (*inputs.shape, len(errors))
    rest = (slope, ratio, ROUNDINGS.index(rounding), seed(), available())
    where = (w.data_ptr(), first)
    kernels.library.program_samples(ctypes.byref(in_c), *where, *addresses, *sizes, *rest)
    return True


def _counting(
    devices: StepDevices, w: Tensor, counts: Tensor | None
) -> interface.StepDevices | None:
    """Return the devices in C, with their counts, if the kernels can take them."""
    in_c = devices.in_c
    sizes = devices.sizes | (set() if counts is None else {counts.shape})
    plain = counts is None or is_plain(counts, torch.int32)
    if in_c is None or not plain or not sizes <= {w.shape}:
        return None
    in_c.counts = _address(counts)
    return in_c


def _fit(w: Tensor, *others: Tensor) -> bool:
    plain = are_plain(w, *others) and not are_recorded(w, *others)
    return plain and all(other.shape == w.shape for other in others)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

"""Counting of the write pulses that each device of an array gets; see `mnist_exp.device.cost`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mnist_exp.device.quantization import Number, level_distance, quantize_nearest

if TYPE_CHECKING:
    from mnist_exp.device.settings import DeviceSettings

WRITTEN = "written"  # name of the counts among an array's per-device values
LATELY = "written_lately"
EXACT = 2**24  # largest whole number up to which float32 holds all


def allocate_counts(count: int, device: torch.device) -> dict[str, Tensor]:
    """Return the counts of an array's devices, int64 [count], and those of its last steps, float32.

    A step adds to the second, which is fast; `WriteCounter` empties it into the first in time.
    """
    return {
        WRITTEN: torch.zeros(count, dtype=torch.int64, device=device),
        LATELY: torch.zeros(count, dtype=torch.float32, device=device),
    }


def pulses_counted(values: dict[str, Tensor]) -> Tensor:
    """Return the pulses given to the devices of all arrays among ``values``, int64 [devices]."""
    arrays = [name for name in values if name.rpartition(".")[2] == WRITTEN]
    return torch.cat(
        [values[name] + values[name.removesuffix(WRITTEN) + LATELY].long() for name in arrays]
    )


class WriteCounter:
    """Adds to the counts of an array.

    Parameters
    ----------
    values : dict of Tensor
        The array's per-device values, with those of `allocate_counts`.
    most : int
        Pulses that a device usually gets in a step at most.
    """

    def __init__(self, values: dict[str, Tensor], most: int) -> None:
        self.counts, self.lately = values[WRITTEN], values[LATELY]
        # a resumed training starts anew with what is there, so at most twice as many steps
        self.steps, self.every = 0, max(1, EXACT // (2 * most))
        # reused: fresh memory on every call costs as much as the work itself
        self.scratch = torch.empty_like(self.lately)

    def add(self, pulses: Tensor) -> None:
        """Add pulses of either direction, whole numbers, float32 [devices]."""
        self.lately += torch.abs(pulses, out=self.scratch)
        self.steps += 1
        if self.steps >= self.every:
            self.counts += self.lately.long()
            self.lately.zero_()
            self.steps = 0


class Asked:
    """Which devices are asked to change in a step; first in it.

    Parameters
    ----------
    counts : Tensor
        Of the array, [devices].
    """

    needs_before: ClassVar[bool] = True

    def __init__(self, counts: Tensor) -> None:
        self.mask = torch.empty_like(counts, dtype=torch.bool)

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Note where ``w`` differs from the last step."""
        assert before is not None, "the constraint keeps it for effects that need it"
        torch.ne(w, before, out=self.mask)


@dataclass
class CountAsked:
    """Counts a pulse for every device that is asked to change."""

    needs_before: ClassVar[bool] = True
    counter: WriteCounter

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Count; ``w`` stays as it is."""
        assert before is not None, "the constraint keeps it for effects that need it"
        self.counter.add(torch.ne(w, before).float())


@dataclass
class CountLevels:
    """Counts the levels by which devices moved that were asked to change; after rounding.

    Parameters
    ----------
    counter : WriteCounter
        Of the array.
    asked : Asked
        The first effect of the step.
    W_min, W_max : float or Tensor
        Bounds of the devices.
    levels : int
        Between them.
    on_grid : bool
        Whether conductances are on levels; otherwise they are rounded here, to the nearest.
    """

    needs_before: ClassVar[bool] = True
    counter: WriteCounter
    asked: Asked
    W_min: Number
    W_max: Number
    levels: int
    on_grid: bool

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Count; ``w`` stays as it is."""
        assert before is not None, "the constraint keeps it for effects that need it"
        grid = (self.W_min, self.W_max, self.levels)
        if not self.on_grid:
            w, before = quantize_nearest(w, *grid), quantize_nearest(before, *grid)
        moved = torch.sub(w, before, out=self.counter.scratch)
        moved.div_(level_distance(*grid)).round_()
        self.counter.add(moved.mul_(self.asked.mask))


def counting(
    settings: DeviceSettings, values: dict[str, Tensor]
) -> tuple[list[Asked | CountAsked], list[CountLevels]]:
    """Return the effects that count where devices get no pulses: first in a step, after rounding.

    Parameters
    ----------
    settings : DeviceSettings
        Of the devices.
    values : dict of Tensor
        The array's per-device values, from `mnist_exp.device.effects.draw_devices`.
    """
    if WRITTEN not in values or settings.pulse_rounding != "none":
        return [], []
    if not settings.quantize:
        return [CountAsked(WriteCounter(values, 1))], []
    asked, levels = Asked(values[WRITTEN]), settings.levels
    bounds = (values.get("W_min", settings.W_min), values.get("W_max", settings.W_max))
    counter = WriteCounter(values, levels)
    return [asked], [CountLevels(counter, asked, *bounds, levels, settings.rounds_on_write)]

"""Counting of the write pulses that each device of an array gets; see `mnist_exp.device.cost`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.cpu.ops import add_saturating
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.quantization import Number, at, level_distance, quantize_nearest

WRITTEN = "written"  # name of the counts among an array's per-device values


def pulses_counted(values: dict[str, Tensor]) -> Tensor:
    """Return the pulses given to the devices of all arrays among ``values``, int32 [devices]."""
    return torch.cat([counts for n, counts in values.items() if n.rpartition(".")[2] == WRITTEN])


def add_pulses(counts: Tensor, devices: Tensor, pulses: Tensor) -> None:
    """Add pulses of either direction to the counts of some devices, up to the largest int32.

    Parameters
    ----------
    counts : Tensor
        Of an array, int32 [devices]; changed in place.
    devices : Tensor
        Indices of those that got pulses, each once.
    pulses : Tensor
        Of each of them, whole numbers; NaN and infinity, of a training that diverged, count as 0.
    """
    add_saturating(counts, devices, pulses.abs())


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
    counts: Tensor

    def __post_init__(self) -> None:
        self.changed = torch.empty_like(self.counts)  # of their dtype: adding booleans is slow

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Count; ``w`` stays as it is."""
        assert before is not None, "the constraint keeps it for effects that need it"
        self.counts += torch.ne(w, before, out=self.changed)


@dataclass
class CountLevels:
    """Counts the levels by which devices moved that were asked to change; after rounding.

    Parameters
    ----------
    counts : Tensor
        Of the array, int32 [devices].
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
    counts: Tensor
    asked: Asked
    W_min: Number
    W_max: Number
    levels: int
    on_grid: bool

    def __post_init__(self) -> None:
        self.step = level_distance(self.W_min, self.W_max, self.levels)

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Count; ``w`` stays as it is."""
        assert before is not None, "the constraint keeps it for effects that need it"
        grid = (self.W_min, self.W_max, self.levels)
        if not self.on_grid:
            w, before = quantize_nearest(w, *grid), quantize_nearest(before, *grid)
        moved = torch.ne(w, before).logical_and_(self.asked.mask).nonzero().squeeze(1)
        change = w.index_select(0, moved) - before.index_select(0, moved)
        add_pulses(self.counts, moved, change.div_(at(self.step, moved)).round_())


def counting(
    settings: DeviceProperties, values: dict[str, Tensor]
) -> tuple[list[Asked | CountAsked], list[CountLevels]]:
    """Return the effects that count where devices get no pulses: first in a step, after rounding.

    Parameters
    ----------
    settings : DeviceProperties
        Of the devices.
    values : dict of Tensor
        The array's per-device values, from `mnist_exp.device.effects.draw_devices`.
    """
    if WRITTEN not in values or settings.pulse_rounding != "none":
        return [], []
    counts = values[WRITTEN]
    if not settings.quantize:
        return [CountAsked(counts)], []
    asked = Asked(counts)
    bounds = (values.get("W_min", settings.W_min), values.get("W_max", settings.W_max))
    on_grid = settings.rounds_on_write
    return [asked], [CountLevels(counts, asked, *bounds, settings.levels, on_grid)]

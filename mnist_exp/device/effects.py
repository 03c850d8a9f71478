"""The package's own effects on the conductances in a step: small classes, applied in order.

``effect(w, before)`` changes ``w``, the flat tensor of all conductances, in place. ``before`` holds
the conductances at the end of the last step and is a tensor whenever an effect sets
``needs_before``. A user's effects, see `mnist_exp.device.effect`, come between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.cpu.ops import round_counting_moves_, round_nearest_, round_stochastic_
from mnist_exp.device.effect import AddedEffect, StepEffect
from mnist_exp.device.programming import build_programming
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.pulse_response import OF_CURVE
from mnist_exp.device.quantization import (
    Number,
    clip,
    level_distance,
    line_of_levels,
    quantize_accumulate,
    quantize_nearest,
    quantize_stochastic,
)
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.retention import retain
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.write_counter import WRITTEN, counting

# Offset and slope of the line from conductances to levels, W_min, W_max, level distance.
Grid = tuple[float, float, float, float, float]


@dataclass
class Retention:
    """Drift toward a resting conductance."""

    needs_before: ClassVar[bool] = False
    rate: float
    target: Number

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Apply one step of drift."""
        retain(w, self.rate, self.target, out=w)


@dataclass
class Clip:
    """Limit of the conductances to their bounds."""

    needs_before: ClassVar[bool] = False
    W_min: Number
    W_max: Number

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Limit to the bounds."""
        clip(w, self.W_min, self.W_max, out=w)


@dataclass
class Round:
    """Retention, then rounding to a level, fused into one pass over the conductances.

    With ``counts``, int32 [devices], it counts the levels by which devices move that are asked to.
    If it also ``keeps``, ``before`` becomes ``w``, as the next step needs it.
    """

    retention: float
    target: Number
    W_min: Number
    W_max: Number
    levels: int
    random: RandomSource | None
    counts: Tensor | None = None
    keeps: bool = False

    @property
    def needs_before(self) -> bool:
        """Whether it counts."""
        return self.counts is not None

    def __post_init__(self) -> None:
        self.grid: Grid | None = None  # None if it differs between devices
        if not any(isinstance(n, Tensor) for n in (self.W_min, self.W_max, self.target)):
            step = level_distance(self.W_min, self.W_max, self.levels)
            offset, slope = line_of_levels(self.W_min, step, self.retention, self.target)
            line, bounds = (float(offset), float(slope)), (float(self.W_min), float(self.W_max))
            self.grid = (*line, *bounds, float(step))

    def keep(self) -> bool:
        """Have it keep ``w`` from now on, if it counts: it must be last. Return whether it does."""
        self.keeps = self.counts is not None
        return self.keeps

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Apply one step of drift, then round: stochastically, or to the nearest level."""
        settings = (self.W_min, self.W_max, self.levels, self.retention, self.target)
        if self.counts is not None and before is not None and self.grid:
            round_counting_moves_(
                w, before, self.counts, *self.grid, random=self.random, keeps=self.keeps
            )
        elif self.random is None and self.grid:
            round_nearest_(w, *self.grid)
        elif self.random is None:
            quantize_nearest(w, *settings, out=w)
        elif self.grid:
            round_stochastic_(w, *self.grid, random=self.random)
        else:
            quantize_stochastic(w, self.random.uniform(len(w)), *settings, out=w)


@dataclass
class Accumulate:
    """Rounding to the nearest level, with the remainder kept in a digital accumulator."""

    needs_before: ClassVar[bool] = False
    W_min: Number
    W_max: Number
    levels: int
    remainder: Tensor

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Round ``w`` and update the remainder."""
        quantized, remainder = quantize_accumulate(
            w, self.remainder, self.W_min, self.W_max, self.levels
        )
        w.copy_(quantized)
        self.remainder.copy_(remainder)


@dataclass
class Stuck:
    """Devices stuck at one value."""

    needs_before: ClassVar[bool] = False
    indices: Tensor
    values: Tensor

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Restore the stuck values."""
        w.index_copy_(0, self.indices, self.values)


def build_effects(
    settings: DeviceProperties,
    devices: dict[str, Tensor],
    random: RandomSource,
    added: Sequence[AddedEffect] = (),
) -> list[StepEffect]:
    """Return the effects that are switched on, in the order they act.

    Parameters
    ----------
    settings : DeviceProperties
        Selects the effects and their strength.
    devices : dict of Tensor
        Per-device values, from `draw_devices`.
    random : RandomSource
        For rounding and noise.
    added : sequence of AddedEffect
        A user's effects. Those placed before the update are left out: they change the update that
        the optimizer asks for.
    """
    W_min: Number = devices.get("W_min", settings.W_min)
    W_max: Number = devices.get("W_max", settings.W_max)
    first, after_rounding = counting(settings, devices)
    effects: list[StepEffect] = [*first]
    if not settings.responds_exactly:
        effects.append(build_programming(settings, devices, random))
    effects += placed(added, "after_update")
    retention = settings.retention_rate if settings.retain else 0.0
    resting = W_min if settings.retention_target is None else settings.retention_target
    rounds = settings.rounds_on_write and "remainder" not in devices
    between = placed(added, "after_retention")
    if retention > 0 and (between or not rounds):
        effects.append(Retention(retention, resting))
        retention = 0.0  # otherwise rounding includes it
    effects += between
    if rounds:  # also clips
        source = random if settings.rounding == "stochastic" else None
        rounding = Round(retention, resting, W_min, W_max, settings.levels, source)
        if after_rounding and effects == [*first] and rounding.grid:
            # it gets what is asked for, and so can count by itself, which is fast
            rounding.counts = devices[WRITTEN]
            effects, after_rounding = [], []
        effects.append(rounding)
    elif settings.rounds_on_write:
        remainder = devices["remainder"]
        effects.append(Accumulate(W_min, W_max, settings.levels, remainder))
    elif settings.clip:
        effects.append(Clip(W_min, W_max))
    effects += after_rounding
    effects += placed(added, "after_rounding")
    if "stuck_indices" in devices:
        effects.append(Stuck(devices["stuck_indices"], devices["stuck_values"]))
    return effects


def store(w: Tensor, settings: DeviceProperties, devices: dict[str, Tensor]) -> None:
    """Write values exactly, in place: on a level or within the bounds, stuck devices left alone.

    Parameters
    ----------
    w : Tensor
        Conductances, float32 [devices].
    settings : DeviceProperties
        Of the devices.
    devices : dict of Tensor
        Per-device values, from `draw_devices`.
    """
    bounds = devices.get("W_min", settings.W_min), devices.get("W_max", settings.W_max)
    if settings.rounds_on_write:
        quantize_nearest(w, *bounds, settings.levels, out=w)
    elif settings.clip:
        clip(w, *bounds, out=w)
    if "stuck_indices" in devices:
        Stuck(devices["stuck_indices"], devices["stuck_values"])(w, None)


def placed(added: Sequence[AddedEffect], place: str) -> list[AddedEffect]:
    """Return the effects of a place, in order."""
    return [effect for effect in added if effect.place == place]


def draw_devices(settings: DeviceProperties, count: int, random: RandomSource) -> dict[str, Tensor]:
    """Draw the per-device values and allocate the per-device state.

    Returns
    -------
    dict of Tensor
        Only the ones the settings need: ``W_min``, ``W_max``, ``rate_factor``, ``remainder``,
        ``pulse_remainder`` (float32 [count]), ``stuck_indices`` (int64), ``stuck_values``
        (float32), the numbers of a step model under ``curve.``, and the pulses counted, ``written``
        (int32 [count]).
    """
    devices: dict[str, Tensor] = {}
    if any(variation := settings.bound_variations):
        of_min, of_max = (share * (settings.W_max - settings.W_min) for share in variation)
        one = settings.W_min + of_min * random.normal(count)
        other = settings.W_max + of_max * random.normal(count)
        # with a wide spread some bounds may cross; the lower one is W_min
        devices["W_min"], devices["W_max"] = torch.minimum(one, other), torch.maximum(one, other)
    if settings.rate_variation > 0:
        devices["rate_factor"] = (1 + settings.rate_variation * random.normal(count)).clamp_(min=0)
    accumulators = {
        "remainder": settings.quantize and settings.rounding == "accumulate",
        "pulse_remainder": settings.pulse_rounding == "accumulate",
    }
    for name in (name for name, used in accumulators.items() if used):
        devices[name] = torch.zeros(count, device=random.device, dtype=torch.float32)
    at_min, at_max = (
        round(share * count) for share in (settings.stuck_at_min, settings.stuck_at_max)
    )
    if at_min + at_max > 0:
        stuck = random.uniform(count).argsort()[: at_min + at_max]
        low, high = (
            devices[name][stuck]
            if name in devices
            else torch.full_like(stuck, bound, dtype=torch.float32)
            for name, bound in (("W_min", settings.W_min), ("W_max", settings.W_max))
        )
        devices["stuck_indices"] = stuck
        devices["stuck_values"] = torch.cat([low[:at_min], high[at_min:]])
    if isinstance(settings.curve, StepModel):
        drawn = settings.curve.draw(count, random)
        devices |= {f"{OF_CURVE}{name}": values for name, values in drawn.items()}
    if settings.cost is not None:
        devices[WRITTEN] = torch.zeros(count, device=random.device, dtype=torch.int32)
    return devices

"""Thresholded and probabilistic writes: fewer pulses, for devices whose noise is several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.quantization import level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.update_scheme import Started, UpdateScheme
from mnist_exp.schema.device_parts import THRESHOLDED_WRITES
from mnist_exp.schema.rule import Rule


@dataclass(kw_only=True)
class ThresholdedWrites(UpdateScheme):
    """Updates are written only if they are large enough, and then by chance.

    ``p = (w - before) / D``, in mean steps, plus what was kept for this device, is written as
    ``scale * p`` where ``|p| >= threshold``, with ``probability``; everywhere else the device gets
    no pulse, and p is kept or lost. Skipping small updates as in arXiv:1712.05895.

    Parameters
    ----------
    threshold : float
        In mean steps D.
    keep : bool
        Whether a digital buffer keeps what is not written; otherwise it is lost.
    probability : float
        Of a write at or above the threshold.
    scale : float
        Factor on what is written; ``1 / probability`` makes up for losses by chance.
    """

    rules: ClassVar[Mapping[str, Rule]] = THRESHOLDED_WRITES
    threshold: float = 1.0
    keep: bool = True
    probability: float = 1.0
    scale: float = 1.0

    @property
    def keeps_updates(self) -> bool:
        """Whether the buffer is used."""
        return self.keep

    def start(
        self, settings: DeviceProperties, count: int, lines: Sequence[Tensor], random: RandomSource
    ) -> Started:
        """Start with an empty buffer."""
        D = float(level_distance(settings.W_min, settings.W_max, settings.levels))
        kept = torch.zeros(count, device=random.device) if self.keep else None
        step = WriteSelected(self, D, random, kept)
        return Started({} if kept is None else {"kept": kept}, step)


@dataclass
class WriteSelected:
    """A step of `ThresholdedWrites`.

    Parameters
    ----------
    scheme : ThresholdedWrites
        Its numbers.
    D : float
        Mean step of the devices.
    random : RandomSource
        For writes by chance.
    kept : Tensor or None
        The buffer, in steps, float32 [devices].
    """

    needs_before: ClassVar[bool] = True
    scheme: ThresholdedWrites
    D: float
    random: RandomSource
    kept: Tensor | None

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Ask the devices, in ``w``, only for what is to be written."""
        assert before is not None, "the constraint keeps it for effects that need it"
        pulses = (w - before).div_(self.D)
        if self.kept is not None:
            pulses += self.kept
        skipped = pulses.abs() < self.scheme.threshold
        if self.scheme.probability < 1:
            skipped |= self.random.uniform(len(w)) >= self.scheme.probability
        written = pulses.masked_fill(skipped, 0.0)
        if self.kept is not None:
            torch.sub(pulses, written, out=self.kept)
        torch.add(before, written, alpha=self.scheme.scale * self.D, out=w)

"""Step model of a measured device: sizes of pulses as a table over the conductance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.step_model import StepModel
from mnist_exp.schema.device_parts import TABLE_STEP
from mnist_exp.schema.rule import Rule, refuse


@dataclass(kw_only=True)
class TableStep(StepModel):
    """Pulses as measured: ``shape`` is linear between the entries of a table, constant beyond.

    Parameters
    ----------
    conductance : sequence of float
        Rising, at least 2; the table is the same for all devices, whatever their bounds.
    up, down : sequence of float
        Sizes of pulses in units of D at these conductances, at least 0.
    """

    rules: ClassVar[Mapping[str, Rule]] = TABLE_STEP
    conductance: Sequence[float]
    up: Sequence[float]
    down: Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self._wrong_lengths())
        sizes = torch.tensor([list(self.up), list(self.down)], dtype=torch.float64)
        knots = torch.tensor(self.conductance, dtype=torch.float64)
        slopes = sizes.diff() / knots.diff()
        self._knots, self._sizes, self._slopes = knots.float(), sizes.float(), slopes.float()

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the table's value at each conductance."""
        row = 0 if up else 1
        if self._knots.device != w.device:
            moved = (t.to(w.device) for t in (self._knots, self._sizes, self._slopes))
            self._knots, self._sizes, self._slopes = moved
        knots, sizes, slopes = self._knots, self._sizes[row], self._slopes[row]
        within = w.clamp(self.conductance[0], self.conductance[-1])
        before = (torch.searchsorted(knots, within, right=True) - 1).clamp(0, len(knots) - 2)
        size = sizes[before] + slopes[before] * (within - knots[before])
        return size.clamp(min=0)  # rounding can go below an entry of 0

    def _wrong_lengths(self) -> Iterator[str]:
        for name in ("up", "down"):
            if len(getattr(self, name)) != len(self.conductance):
                yield (
                    f"constraint.curve.{name}: has {len(getattr(self, name))} entries, and "
                    f"conductance has {len(self.conductance)}; give one for each."
                )

"""Tiki-Taka: a fast array gathers the updates, and from it they move to the array with the weights.

Version 1 is that of T. Gokmen, W. Haensch, "Algorithm for training neural networks on resistive
device arrays", Front. Neurosci. 14:103, 2020; version 2 of T. Gokmen, "Enabling training of neural
networks on noisy hardware", Front. Artif. Intell. 4:699148, 2021; its chopper of M. J. Rasch et
al., "Fast and robust analog in-memory deep neural network training", Nat. Commun. 15:7133, 2024.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.effects import build_effects, draw_devices, store
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.quantization import level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.read_counts import Reads
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.symmetry_point import symmetry_points
from mnist_exp.device.update_scheme import Started, UpdateScheme
from mnist_exp.schema.device_parts import TIKI_TAKA, TIKI_TAKA_V2
from mnist_exp.schema.rule import Rule


@dataclass(kw_only=True)
class TikiTaka(UpdateScheme):
    """Updates go to a fast array A; a slow array C holds the weights and is written from A.

    Each step, ``A <- A + fast_rate * update``. Every ``every`` steps the next ``columns`` columns
    of A (a column is the devices on one input line; round robin in every layer) are read, and
    ``C <- C + rate * (A - A0)`` there. The network computes with ``C + gamma * (A - A0)``. A0 is
    A's state at the start: its devices' symmetry points, to which noise and asymmetry drive A while
    the gradient is zero on average. Both arrays are devices as the constraint describes them, each
    with its own numbers and noise. Other mappings than "direct" have an A and a C for each
    conductance of a weight.

    Parameters
    ----------
    every : int
        Optimizer steps from one transfer to the next.
    columns : int
        Columns of every layer that a transfer reads; a layer with fewer is read whole.
    fast_rate : float
        Factor on updates of A; large, so that they stand out from its noise.
    rate : float
        Share of the reading that is asked of C.
    gamma : float
        Share of A in what the network computes with.
    """

    rules: ClassVar[Mapping[str, Rule]] = TIKI_TAKA
    keeps_updates: ClassVar[bool] = True
    every: int = 1
    columns: int = 128
    fast_rate: float = 20.0
    rate: float = 0.01
    gamma: float = 0.0

    def start(
        self, settings: DeviceProperties, count: int, lines: Sequence[Tensor], random: RandomSource
    ) -> Started:
        """Put A at its symmetry points."""
        return _started(Transfer(self, FastArray(settings, count, random), lines), self.gamma)

    def misfits(self, settings: DeviceProperties) -> Iterator[str]:
        """Yield a message if devices go one way only: A then has no symmetry point."""
        if isinstance(settings.curve, StepModel) and settings.curve.potentiation_only:
            yield (
                f"constraint.update={type(self).__name__}: the fast array needs pulses in both "
                "directions, and constraint.curve.potentiation_only=true drops those down; set "
                "constraint.update=direct or another device."
            )


@dataclass(kw_only=True)
class TikiTakaV2(TikiTaka):
    """`TikiTaka` with a digital buffer H between A and C, and with choppers.

    What is read goes into H, in pulses of C: ``H <- H + sign * rate * (A - A0) / D``. Where
    ``|H| >= threshold``, its whole pulses are written to C and taken out; the rest stays. ``D`` is
    the mean step. The buffer averages over A's noise, and C is written rarely.

    Updates of A are multiplied by the sign of their column, as is what is read, so that an A0 that
    is not the symmetry point cancels out over time. After a column was read, its sign flips with
    ``flip_probability``.

    Parameters
    ----------
    threshold : float
        Pulses at which H is written; below 1 the same as 1.
    flip_probability : float
        0: no choppers.
    """

    rules: ClassVar[Mapping[str, Rule]] = TIKI_TAKA_V2
    columns: int = 256
    fast_rate: float = 30.0
    rate: float = 0.005
    threshold: float = 30.0
    flip_probability: float = 0.0

    def start(
        self, settings: DeviceProperties, count: int, lines: Sequence[Tensor], random: RandomSource
    ) -> Started:
        """Put A at its symmetry points, with an empty buffer."""
        fast = FastArray(settings, count, random)
        return _started(BufferedTransfer(self, fast, lines, settings, random), self.gamma)


class FastArray:
    """Devices on which updates gather, read from where they started.

    Parameters
    ----------
    settings : DeviceProperties
        Of the devices; a user's effects do not act on them.
    count : int
        Number of devices.
    random : RandomSource
        For variation, rounding and noise.
    """

    def __init__(self, settings: DeviceProperties, count: int, random: RandomSource) -> None:
        self._devices = draw_devices(settings, count, random)
        self._effects = build_effects(settings, self._devices, random)
        self._needs_before = any(effect.needs_before for effect in self._effects)
        self._conductances = symmetry_points(settings, self._devices, count, random)
        store(self._conductances, settings, self._devices)
        self._start = self._conductances.clone()
        own = {f"device.{name}": values for name, values in self._devices.items()}
        self.state = {"fast": self._conductances, "fast_start": self._start, **own}

    def update(self, change: Tensor, rate: float) -> None:
        """Ask for a change, float32 [devices], times a rate."""
        before = self._conductances.clone() if self._needs_before else None
        self._conductances.add_(change, alpha=rate)
        for effect in self._effects:
            effect(self._conductances, before)

    def reading(self, devices: Tensor | None = None) -> Tensor:
        """Return what gathered on all devices or on those of these indices."""
        if devices is None:
            return self._conductances - self._start
        return self._conductances.index_select(0, devices) - self._start.index_select(0, devices)


class Transfer:
    """A step of `TikiTaka`.

    Parameters
    ----------
    scheme : TikiTaka
        Its numbers.
    fast : FastArray
        A.
    lines : sequence of Tensor
        As in `UpdateScheme.start`.
    """

    needs_before: ClassVar[bool] = True

    def __init__(self, scheme: TikiTaka, fast: FastArray, lines: Sequence[Tensor]) -> None:
        self.scheme, self.fast, self.lines = scheme, fast, [of for of in lines if len(of)]
        self.steps = torch.zeros((), dtype=torch.int64, device="cpu")
        self.state = {"steps": self.steps, **fast.state}

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Write the update to A; ask C, held in ``w``, for the transfer."""
        assert before is not None, "the constraint keeps it for effects that need it"
        change = w - before
        if self.scheme.gamma > 0:
            before -= self.scheme.gamma * self.fast.reading()  # C
        self.write(change)
        w.copy_(before)
        self.steps += 1
        transfers, left = divmod(int(self.steps), self.scheme.every)
        if left == 0:
            self.transfer(w, self.next_columns(transfers - 1))

    def next_columns(self, transfer: int) -> list[Tensor]:
        """Return the devices that a transfer, counted from 0, reads: [columns, rows] a layer."""
        found = []
        for lines in self.lines:
            columns = min(self.scheme.columns, len(lines))
            first = transfer * columns % len(lines)
            chosen = lines[first : first + columns]
            missing = columns - len(chosen)
            found.append(torch.cat([chosen, lines[:missing]]) if missing else chosen)
        return found

    def transferred(self) -> Reads:
        """Return the reads of A so far: one for each column, which converts its outputs."""
        columns = [min(self.scheme.columns, len(lines)) for lines in self.lines]
        rows = [len(lines[0]) for lines in self.lines]
        outputs = sum(map(operator.mul, columns, rows))
        return Reads(sum(columns), outputs) * (int(self.steps) // self.scheme.every)

    def write(self, change: Tensor) -> None:
        """Ask A for a change, times ``fast_rate``."""
        self.fast.update(change, self.scheme.fast_rate)

    def transfer(self, w: Tensor, columns: list[Tensor]) -> None:
        """Read columns of A and ask C for them."""
        devices = torch.cat([of_layer.reshape(-1) for of_layer in columns])
        w.index_add_(0, devices, self.fast.reading(devices), alpha=self.scheme.rate)


class BufferedTransfer(Transfer):
    """A step of `TikiTakaV2`; parameters as in `Transfer` and `UpdateScheme.start`."""

    scheme: TikiTakaV2

    def __init__(
        self,
        scheme: TikiTakaV2,
        fast: FastArray,
        lines: Sequence[Tensor],
        settings: DeviceProperties,
        random: RandomSource,
    ) -> None:
        super().__init__(scheme, fast, lines)
        self.random = random
        self.D = float(level_distance(settings.W_min, settings.W_max, settings.levels))
        self.buffer = torch.zeros_like(fast.state["fast"])
        self.state["buffer"] = self.buffer
        self.signs = torch.ones_like(self.buffer) if scheme.flip_probability > 0 else None
        if self.signs is not None:
            self.state["signs"] = self.signs

    def write(self, change: Tensor) -> None:
        """Ask A for a change, times ``fast_rate``."""
        if self.signs is not None:
            change *= self.signs
        self.fast.update(change, self.scheme.fast_rate)

    def transfer(self, w: Tensor, columns: list[Tensor]) -> None:
        """Read columns of A into the buffer and ask C for its whole pulses."""
        devices = torch.cat([of_layer.reshape(-1) for of_layer in columns])
        read = self.fast.reading(devices)
        if self.signs is not None:
            read *= self.signs.index_select(0, devices)
        held = self.buffer.index_select(0, devices) + self.scheme.rate / self.D * read
        pulses = torch.where(held.abs() >= self.scheme.threshold, held.trunc(), 0.0)
        self.buffer.index_copy_(0, devices, held - pulses)
        w.index_add_(0, devices, pulses, alpha=self.D)
        if self.signs is not None:
            self._flip(self.signs, columns)

    def _flip(self, signs: Tensor, columns: list[Tensor]) -> None:
        draws = self.random.uniform(sum(map(len, columns)))
        flips = (draws < self.scheme.flip_probability).split([len(of) for of in columns])
        for of_layer, flip in zip(columns, flips, strict=True):
            turned = of_layer[flip].reshape(-1)
            signs[turned] = -signs[turned]


@dataclass
class AddFast:
    """What A adds to the weights, last in a step."""

    needs_before: ClassVar[bool] = False
    fast: FastArray
    gamma: float

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Add it to C, held in ``w``."""
        w.add_(self.fast.reading(), alpha=self.gamma)


def _started(transfer: Transfer, gamma: float) -> Started:
    last = [AddFast(transfer.fast, gamma)] if gamma > 0 else []
    return Started(transfer.state, transfer, last, transfer.transferred)

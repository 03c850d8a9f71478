"""The reading of an array with converters, noise, tiles and resistive wires."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.cpu.array_reading import Converters, read_product
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.reading.converters import Driven, convert, drive, steps_of
from mnist_exp.device.reading.reading import Array, Reading
from mnist_exp.device.reading.wires import effective_conductances
from mnist_exp.schema.device_parts import ARRAY_READING
from mnist_exp.schema.rule import Rule, refuse


@dataclass(kw_only=True)
class ArrayReading(Reading):
    """Inputs become voltages on rows, currents of columns become outputs.

    Every vector of inputs (in a convolution, every patch) is one read. Currents are in units of the
    device with the largest weight at the largest voltage, so that a column of n rows has at most n.
    Outputs are scaled back by both, digitally, and biases added digitally. The defaults are those
    of aihwkit's ``IOParameters`` (M. J. Rasch et al., AICAS 2021, arXiv:2104.02184), which also
    halves inputs until no output is clipped; this does not.

    Parameters
    ----------
    input_bits : int or None
        Of the digital-to-analog converters, sign included; None: exact.
    input_range : float, "abs_max" or None
        Input at the largest voltage; beyond it, inputs are clipped. "abs_max": each vector's own
        largest (noise management). None: 1, and no clipping; only without ``input_bits``.
    input_signed : bool
        Whether voltages may be negative; otherwise negative inputs are clipped to 0.
    output_bits : int or None
        Of the analog-to-digital converters, sign included; None: exact.
    output_range : float, "all_rows" or None
        Current beyond which outputs are clipped; "all_rows": as many as a tile has rows, so that
        nothing is. None: no clipping; only without ``output_bits``.
    output_noise : float
        Standard deviation of the noise of each current before it is converted.
    read_noise : float
        Standard deviation of each weight from read to read, as a share of the largest weight.
    weight_noise : float
        The same, but drawn for each batch of training, and none in evaluation: what makes a network
        tolerate errors of programming (hardware-aware training).
    tile_rows, tile_columns : int or None
        Inputs and outputs of a tile; each tile's currents are converted and then added digitally.
        None, or more than the layer has: one tile.
    wire_resistance : float
        Of the wire between two devices, as a share of a fully-on device's resistance; see
        `mnist_exp.device.reading.wires`. G_plus and G_minus of a tile are arrays of their own.
    in_backward : bool
        Whether gradients of inputs are also read, from the transposed array, at "abs_max";
        otherwise they are exact.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    rules: ClassVar[Mapping[str, Rule]] = ARRAY_READING
    input_bits: int | None = 7
    input_range: float | str | None = "abs_max"
    input_signed: bool = True
    output_bits: int | None = 9
    output_range: float | str | None = 12.0
    output_noise: float = 0.06
    read_noise: float = 0.0
    weight_noise: float = 0.0
    tile_rows: int | None = None
    tile_columns: int | None = None
    wire_resistance: float = 0.0
    in_backward: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self._contradictions())

    @cached_property
    def transposed(self) -> ArrayReading | None:
        """The same converters at the other ends of the wires, for errors of any size."""
        if not self.in_backward:
            return None
        return replace(
            self,
            input_bits=None if self.input_bits is None else max(self.input_bits, 2),
            input_range="abs_max",
            input_signed=True,
            tile_rows=self.tile_columns,
            tile_columns=self.tile_rows,
            in_backward=False,
        )

    def weights(self, weights: Tensor, array: Array) -> Tensor:
        """Return the weights with the voltage drop along wires, and with ``weight_noise``."""
        if self.wire_resistance > 0:
            plus, minus, factor = array.pair()
            weights = factor * (self._wired(plus) - self._wired(minus))
        if self.weight_noise > 0 and array.training:
            weights = weights + array.normal(weights) * (self.weight_noise * array.weight_range)
        return weights

    def read(self, inputs: Tensor, weights: Tensor, array: Array) -> Tensor:
        """Return the product as the sum of what the tiles' converters give."""
        converters = self.converters(array.weight_range, weights.shape[1])
        if converters is not None and array.random.device.type == "cpu":
            found = read_product(inputs, weights, converters, array.random.seed)
            if found is not None:
                return found
        voltages, unit, scale = self.drive(inputs)
        to_current = unit / array.weight_range
        if not self._changes_currents:
            return F.linear(voltages, weights).mul_(scale)
        total: Tensor | None = None
        for rows in tiles(weights.shape[1], self.tile_rows):
            on_tile = voltages[..., rows]
            currents = F.linear(on_tile, weights[:, rows]).mul_(to_current)
            self._add_noise(currents, on_tile, unit, array)
            converted = self.convert(currents, on_tile.shape[-1])
            total = converted if total is None else total.add_(converted)
        if total is None:
            return F.linear(voltages, weights)
        return total.mul_(scale / to_current)

    @property
    def changes_weights(self) -> bool:
        """Whether `weights` returns others than those stored, at least in training."""
        return self.wire_resistance > 0 or self.weight_noise > 0

    def converters(self, weight_range: float | Tensor, rows: int) -> Converters | None:
        """Return the numbers of a product with so many inputs for a kernel.

        None where it is computed otherwise: from several tiles, or by a class of one's own.
        """
        if type(self) is not ArrayReading or (self.tile_rows or rows) < rows:
            return None
        steps = steps_of(self.input_bits, self.input_signed)
        own = self.input_range == "abs_max"
        size = 1.0 if own or self.input_range is None else float(self.input_range)
        limited = not own and self.input_range is not None
        to_current = 1 / steps / weight_range if self._changes_currents else 1.0
        digits = float(steps_of(self.output_bits))
        largest = self._output_limit(rows)
        rounds = largest is not None and self.output_bits is not None
        return Converters(
            own_range=own,
            rounds_inputs=self.input_bits is not None,
            rounds_outputs=rounds,
            steps=steps,
            to_voltage=steps / size,
            lowest=(-steps if limited else -math.inf) if self.input_signed else 0.0,
            highest=steps if limited else math.inf,
            to_current=float(to_current),
            to_digit=digits / largest if rounds and largest is not None else 1.0,
            largest_digit=math.inf if largest is None else digits if rounds else largest,
            from_digit=largest / digits if rounds and largest is not None else 1.0,
            to_output=float(size / steps / to_current),
            output_noise=self.output_noise,
            read_noise=self.read_noise / steps,
        )

    def drive(self, inputs: Tensor) -> Driven:
        """Convert inputs [..., in] to voltages."""
        return drive(inputs, self.input_bits, self.input_range, self.input_signed)

    def convert(self, currents: Tensor, rows: int) -> Tensor:
        """Convert currents of a tile with so many rows; may change them in place."""
        return convert(currents, self.output_bits, self._output_limit(rows))

    def conversions(self, inputs: int, outputs: int) -> tuple[int, int]:
        """Return the conversions of a read, forward and backward.

        What drives an array is converted once for all tiles; what is read, by each tile in turn.
        """
        in_rows, in_columns = (
            sum(1 for _ in tiles(count, size))
            for count, size in ((inputs, self.tile_rows), (outputs, self.tile_columns))
        )
        return inputs + outputs * in_rows, outputs + inputs * in_columns

    def misfits(self, settings: DeviceProperties) -> Iterator[str]:
        """Yield a message if conductances are negative where wires' currents follow from them."""
        if self.wire_resistance > 0 and settings.mapping != "direct" and settings.W_min < 0:
            yield (
                f"constraint.W_min={settings.W_min}: with constraint.read.wire_resistance="
                f"{self.wire_resistance} conductances are at least 0; move the range, or set "
                "wire_resistance=0."
            )

    @property
    def is_exact(self) -> bool:
        """Whether inputs and currents stay as they are, in both directions."""
        drives_all = self.input_range is None and self.input_signed
        return drives_all and not self._changes_currents and not self.in_backward

    def _output_limit(self, rows: int) -> float | None:
        limit = float(rows) if self.output_range == "all_rows" else self.output_range
        return None if limit is None else float(limit)

    @property
    def _changes_currents(self) -> bool:
        return self.output_range is not None or self.output_noise > 0 or self.read_noise > 0

    def _add_noise(self, currents: Tensor, voltages: Tensor, unit: float, array: Array) -> None:
        """Add the noise of the read-out, and what the noise of all devices of a column sums to."""
        if self.read_noise > 0:
            # independent noise of the devices, times the voltages: variances add up
            norm = torch.linalg.vector_norm(voltages, dim=-1, keepdim=True) * unit
            deviation = (norm.square_() * self.read_noise**2 + self.output_noise**2).sqrt_()
            currents.addcmul_(array.normal(currents), deviation)
        elif self.output_noise > 0:
            currents.add_(array.normal(currents), alpha=self.output_noise)

    def _wired(self, conductances: Tensor) -> Tensor:
        """Return effective conductances [out, in], of each tile by itself."""
        result = torch.empty_like(conductances)
        outputs, inputs = conductances.shape
        for columns in tiles(outputs, self.tile_columns):
            for rows in tiles(inputs, self.tile_rows):
                tile = conductances[columns, rows].T
                result[columns, rows] = effective_conductances(tile, self.wire_resistance).T
        return result

    def _contradictions(self) -> Iterator[str]:
        if self.input_bits == 1 and self.input_signed:
            yield (
                "constraint.read.input_bits=1: with input_signed=true one bit is the sign; set "
                "input_signed=false, or 2 bits or more."
            )
        for end in ("input", "output"):
            bits = getattr(self, f"{end}_bits")
            if bits is not None and getattr(self, f"{end}_range") is None:
                yield (
                    f"constraint.read.{end}_bits={bits}: the steps of a converter divide its range;"
                    f" set {end}_range, or {end}_bits=null."
                )


def tiles(count: int, size: int | None) -> Iterator[slice]:
    """Yield the rows or columns of each tile, the last of which may have fewer."""
    size = size or max(count, 1)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))

"""The forward pass of a linear or convolution layer whose product is read from an array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.device.mapping import Mapping
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.reading.reading import Array, Pair, Reading, largest
from mnist_exp.models.parametrizations import parametrizations

SPAWN_KEY = 0x72656164  # sets readings' random numbers apart from others of the same seed


class Stream:
    """The random numbers of all layers of a network; ``seed`` is non-negative."""

    def __init__(self, seed: int, device: torch.device) -> None:
        of_training, self._seed = (
            int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
            for key in ((SPAWN_KEY,), (SPAWN_KEY, 1))
        )
        self.random = RandomSource(of_training, device)

    @contextmanager
    def restarted(self, device: torch.device) -> Iterator[None]:
        """Draw an evaluation's numbers in a block, on a device; continue after it as before."""
        before, self.random = self.random, RandomSource(self._seed, device)
        try:
            yield
        finally:
            self.random = before


@dataclass(eq=False)
class ReadLayer:
    """Forward pass of a linear or convolution layer whose product is read from an array.

    Gradients are those of the exact product with the weights as they act (`Reading.weights`):
    straight through converters and noise, unless the reading has the inputs' gradient read too.

    Attributes
    ----------
    layer : nn.Linear or nn.Conv2d
        With its weight and bias.
    reading : Reading
        How the product is read.
    stream : Stream
        For everything random.
    weight_range : float or None
        Largest weight that devices can hold; None: the layer's largest.
    on : float or None
        Conductance of a fully-on device; None: that of the largest weight.
    output_scale : float
        Digital factor on outputs before the bias, such as a drift compensation.
    pair : tuple or None
        Conductances of the weight's shape and their factor; None: those of the layer's mapping.
    """

    replaces_product: ClassVar[bool] = True
    layer: nn.Linear | nn.Conv2d
    reading: Reading
    stream: Stream
    weight_range: float | None = None
    on: float | None = None
    output_scale: float | Tensor = 1.0
    pair: Pair | None = None

    def __call__(self, input: Tensor) -> Tensor:  # the name that torch's layers give it
        """Return the layer's output."""
        # in 16 bits a converter's steps would be lost
        with torch.autocast(input.device.type, enabled=False):
            layer, weight = self.layer, self.layer.weight
            inputs = input.to(weight.dtype)
            if isinstance(layer, nn.Conv2d):
                return self._convolution(layer, inputs, weight)
            outputs = self._product(inputs, weight, slice(None))
            return outputs if layer.bias is None else outputs + layer.bias

    def _convolution(self, layer: nn.Conv2d, inputs: Tensor, weight: Tensor) -> Tensor:
        if self.reading.is_exact:
            return self._exact_convolution(layer, inputs, weight)
        patches, sides = patches_of(layer, inputs)
        size = len(weight) // layer.groups
        groups = [slice(first, first + size) for first in range(0, len(weight), size)]
        outputs = [
            self._product(of_group, weight[group].flatten(1), group)
            for of_group, group in zip(patches.chunk(layer.groups, -1), groups, strict=True)
        ]
        joined = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        if layer.bias is not None:
            joined = joined + layer.bias
        return joined.transpose(-1, -2).unflatten(-1, sides)  # (..., L, C) -> (..., C, H, W)

    def _exact_convolution(self, layer: nn.Conv2d, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the output without patches in memory, several times as fast."""
        size = len(weight) // layer.groups
        acting = torch.empty_like(weight)
        with torch.no_grad():
            for first in range(0, len(weight), size):
                rows = slice(first, first + size)
                matrix = weight[rows].flatten(1)
                changed = self.reading.weights(matrix, self.array(matrix, rows))
                acting[rows] = changed.view_as(acting[rows])
            change = acting - weight
        outputs = self._scaled(layer._conv_forward(inputs, weight + change, None))
        return outputs if layer.bias is None else outputs + layer.bias.view(-1, 1, 1)

    def _product(self, inputs: Tensor, weight: Tensor, rows: slice) -> Tensor:
        array = self.array(weight, rows)
        return self._scaled(_StraightThrough.apply(inputs, weight, self.reading, array))

    def array(self, weight: Tensor, rows: slice = slice(None)) -> Array:
        """Return the devices of the weight [out, in], or of some of its rows."""
        limit = self.weight_range
        weight_range = largest(weight) if limit is None else limit
        pair = partial(self._pair, weight, weight_range, rows)
        return Array(self.stream.random, weight_range, self.layer.training, pair)

    def _scaled(self, outputs: Tensor) -> Tensor:
        exact = isinstance(self.output_scale, float) and self.output_scale == 1
        return outputs if exact else outputs * self.output_scale

    def _pair(self, weight: Tensor, weight_range: float | Tensor, rows: slice) -> Pair:
        """Return the conductances given, or of the mapping; otherwise one of each pair is off."""
        if self.pair is not None:
            G_plus, G_minus, factor = self.pair
            return G_plus[rows].flatten(1), G_minus[rows].flatten(1), factor
        behind = parametrizations(self.layer).get("weight")
        if behind is None or self.on is None or not isinstance(behind[0], Mapping):
            shares = weight.detach() / weight_range
            return shares.clamp(min=0), (-shares).clamp(min=0), weight_range
        plus, minus = behind[0].pair(*(p.detach() for p in behind.parameters()))
        on = self.on
        return plus[rows].flatten(1) / on, minus[rows].flatten(1) / on, behind[0].gain * on


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, reading: Reading, array: Array) -> Tensor:
        acting = reading.weights(weight, array)
        ctx.save_for_backward(inputs, acting)
        ctx.reading, ctx.array = reading, array
        return reading.read(inputs, acting, array)

    @staticmethod
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        inputs, acting = ctx.saved_tensors
        of_inputs = of_weight = None
        if ctx.needs_input_grad[0]:
            transposed = ctx.reading.transposed
            if transposed is None:
                of_inputs = errors @ acting
            else:
                of_inputs = transposed.read(errors, acting.T, ctx.array)
        if ctx.needs_input_grad[1]:
            of_weight = errors.flatten(0, -2).T @ inputs.flatten(0, -2)
        return of_inputs, of_weight, None, None


def patches_of(layer: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return what each position of the kernel sees, [..., L, channels * taps], and H, W of L."""
    padding: Any = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
        padding = (0, 0)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    height, width = (
        (side + 2 * pad - spacing * (taps - 1) - 1) // step + 1
        for side, pad, taps, spacing, step in zip(
            inputs.shape[-2:], padding, kernel, dilation, stride, strict=True
        )
    )
    patches = F.unfold(inputs, kernel, dilation, padding, stride)
    return patches.transpose(-1, -2), (height, width)

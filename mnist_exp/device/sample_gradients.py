"""The conductance gradients of single samples, from what reaches each layer in a batch.

Hooks keep the inputs of every layer on devices and the gradient of its output. For a linear layer,
a sample's gradient is the outer product of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from mnist_exp.device.mapping import Mapping as DeviceMapping
from mnist_exp.device.synapses import Synapse
from mnist_exp.models.parametrizations import parametrizations

ELEMENTS = 1 << 20  # of a block of gradients held at once, 4 MiB


@dataclass
class Block:
    """Gradients of some samples by some devices, in the order of the samples.

    Attributes
    ----------
    values : Tensor
        float32 [K, M].
    first : Tensor or int
        Device of the first value in each row, int64 [K], or in all of them.
    stride : int
        From the device of a value to that of the next in its row.
    """

    values: Tensor
    first: Tensor | int
    stride: int

    def devices(self) -> Tensor:
        """Return the device of every value, int64 [K, M]."""
        of_row = self.stride * torch.arange(self.values.shape[1], device=self.values.device)
        start = self.first.unsqueeze(1) if isinstance(self.first, Tensor) else self.first
        return (of_row + start).expand(self.values.shape)

    def devices_at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the devices of some values, int64 [E]."""
        start = self.first.index_select(0, rows) if isinstance(self.first, Tensor) else self.first
        return columns * self.stride + start


@dataclass
class OuterProducts:
    """Gradients of a linear layer's samples: ``slope`` times the outer product of two vectors.

    Attributes
    ----------
    outputs, inputs : Tensor
        float32 [samples, outputs] and [samples, inputs].
    first : int
        The first of the layer's devices, [outputs, inputs] in a row.
    slope : float
        Derivative of a weight by its conductance.
    """

    outputs: Tensor
    inputs: Tensor
    first: int
    slope: float

    def blocks(self) -> Iterator[Block]:
        """Yield the gradients, only for inputs that are not 0."""
        columns_in = self.inputs.shape[1]
        for some in self.inputs.nonzero().split(max(1, ELEMENTS // self.outputs.shape[1])):
            samples, lines = some.unbind(1)
            values = self.outputs.index_select(0, samples)
            values *= (self.inputs[samples, lines] * self.slope).unsqueeze(1)
            yield Block(values, lines + self.first, columns_in)


class LayerCalls:
    """What a layer got in the forward and backward pass of a batch; a hook of the layer.

    Parameters
    ----------
    layer : nn.Module
        Its weights are on devices.
    first : mapping of str to int
        First device, in the flat buffer, of each of its parameters on devices.
    """

    def __init__(self, layer: nn.Module, first: Mapping[str, int]) -> None:
        self.layer, self.first = layer, first
        self.calls: list[list[Tensor]] = []  # gradient of the output, then the inputs
        self.listens = True

    def __call__(
        self, layer: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor
    ) -> None:
        """Keep the inputs, given by place or name, and later the gradient of the output."""
        if self.listens and output.requires_grad:
            given = (*inputs, *named.values())
            kept = [tensor.detach() for tensor in given if isinstance(tensor, Tensor)]
            output.register_hook(lambda gradient: self.calls.append([gradient, *kept]))

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        """Let copies of the network keep nothing."""
        return keep_nothing

    def gradients(self, factor: float = 1.0) -> Iterator[OuterProducts | Block]:
        """Yield the samples' gradients times a factor, those of a device in the samples' order."""
        for gradient, *inputs in self.calls:
            output = gradient.float() * factor
            if isinstance(self.layer, nn.Linear) and output.dim() == 2:
                yield from self._outer_products(output, inputs[0].float())
            else:
                yield from self._by_autograd(output, inputs)

    def _outer_products(self, output: Tensor, inputs: Tensor) -> Iterator[OuterProducts]:
        """Yield the gradients of a linear layer."""
        for name, first in self.first.items():
            slope = _slope(self.layer, name)
            if _of(name) == "bias":  # a row of devices, one for each output
                yield OuterProducts(torch.ones_like(output[:, :1]), output, first, slope)
            else:
                yield OuterProducts(output, inputs, first, slope)

    def _by_autograd(self, output: Tensor, inputs: Sequence[Tensor]) -> Iterator[Block]:
        """Yield the gradients of any other layer, of a part of the batch at a time."""
        parameters = dict(self.layer.named_parameters())
        of_devices = {name: parameters[name].detach() for name in self.first}

        def of_sample(output: Tensor, *inputs: Tensor) -> dict[str, Tensor]:
            single = tuple(tensor.unsqueeze(0) for tensor in inputs)
            run: Any = vjp(lambda changed: functional_call(self.layer, changed, single), of_devices)
            gradients: dict[str, Tensor] = run[1](output.unsqueeze(0))[0]
            return gradients

        samples = max(1, ELEMENTS // sum(p.numel() for p in of_devices.values()))
        parts = [tensor.float().split(samples) for tensor in (output, *inputs)]
        self.listens = False
        reading = vars(self.layer).pop("forward", None)  # gradients are those of the exact product
        try:
            for part in zip(*parts, strict=True):
                for name, values in vmap(of_sample)(*part).items():
                    yield Block(values.flatten(1), self.first[name], 1)
        finally:
            if reading is not None:
                self.layer.forward = reading
            self.listens = True


def keep_nothing(
    layer: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
) -> None:
    """Stand in for `LayerCalls` in a copy of the network."""


def listen(
    model: nn.Module, synapses: Sequence[Synapse], conductances: Sequence[Sequence[nn.Parameter]]
) -> list[LayerCalls]:
    """Have the layers on devices keep what reaches them, from one forward pass to the next.

    Parameters
    ----------
    model : nn.Module
        The network.
    synapses : sequence of Synapse
        In the order of the flat buffer.
    conductances : sequence of sequence of nn.Parameter
        The conductances of each.
    """
    first: dict[nn.Parameter, int] = {}
    count = 0
    for p in (p for of_synapse in conductances for p in of_synapse):
        first[p] = count
        count += p.numel()
    layers = dict.fromkeys(layer for synapse in synapses for layer, _ in synapse.places)
    kept = []
    for layer in layers:
        trained = {n: p for n, p in layer.named_parameters() if p in first and p.requires_grad}
        own = {name: first[p] for name, p in trained.items()}
        if own:
            kept.append(LayerCalls(layer, own))
            layer.register_forward_hook(kept[-1], with_kwargs=True)
    model.register_forward_pre_hook(Forget(kept))
    return kept


@dataclass
class Forget:
    """Drops what an earlier batch left, before the next; a hook of the network."""

    layers: Sequence[LayerCalls]

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Drop it."""
        for layer in self.layers:
            layer.calls.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Forget:
        """Let copies of the network drop nothing."""
        return Forget(())


def _of(name: str) -> str:
    """Return "weight" or "bias", of a layer's parameter or of a conductance behind it."""
    return name.split(".")[1] if name.startswith("parametrizations.") else name


def _slope(layer: nn.Module, name: str) -> float:
    """Return the derivative of a weight by one of its conductances."""
    behind = parametrizations(layer).get(_of(name))
    if behind is None:
        return 1.0
    mapping = behind[0]
    assert isinstance(mapping, DeviceMapping), "the constraint put it there"
    ending = name.removeprefix(f"parametrizations.{_of(name)}.original")
    return mapping.slopes[int(ending or 0)]

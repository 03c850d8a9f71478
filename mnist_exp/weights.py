"""Weights and biases in a chain rule that is written out, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn

from mnist_exp.device.mapping import Mapping
from mnist_exp.models.parametrizations import parametrizations


def make_gradients(
    parameters: Iterable[nn.Parameter],
) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """Make room for the gradients of float32 parameters, in the order they have in memory.

    So an optimizer can move at once what lies side by side, as conductances do.

    Returns
    -------
    buffer : Tensor
        [elements of all parameters].
    gradients : dict
        For each parameter, in this order, its part of the buffer, with its shape and strides.
    """
    ordered = _in_memory_order(parameters)
    buffer = torch.empty(sum(p.numel() for p in ordered), device=ordered[0].device)
    gradients, start = {}, 0
    for p in ordered:
        gradients[p] = buffer.as_strided(p.shape, p.stride(), start)
        start += p.numel()
    return buffer, gradients


def _in_memory_order(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Sort parameters by place in their storage; storages stay in order of appearance."""
    storages: dict[int, list[nn.Parameter]] = {}
    for p in parameters:
        storages.setdefault(p.untyped_storage().data_ptr(), []).append(p)
    ordered = [sorted(group, key=lambda p: p.storage_offset()) for group in storages.values()]
    return list(chain(*ordered))


class Weight:
    """A weight or bias in the chain rule: a parameter, or what devices make of several.

    Parameters
    ----------
    layer, name
        The module and the name of the weight in it.
    gradients : dict
        For each parameter, where its gradient goes.
    """

    def __init__(self, layer: nn.Module, name: str, gradients: dict[nn.Parameter, Tensor]) -> None:
        self.mapping: Mapping | None = None
        self.slopes: tuple[float, ...] = (1.0,)
        self.parameters = [getattr(layer, name)]
        if name in parametrizations(layer):
            behind = parametrizations(layer)[name]
            (mapping,) = behind
            assert isinstance(mapping, Mapping)
            self.mapping, self.slopes = mapping, mapping.slopes
            self.parameters = list(behind.parameters(recurse=False))
        self.gradients = [gradients[p] for p in self.parameters]

    def value(self) -> Tensor:
        """Return what the layer multiplies by or adds now."""
        value: Tensor = self.parameters[0]
        return value if self.mapping is None else self.mapping(*self.parameters)

    def set_gradient(self, function: Callable[..., Tensor], first: Tensor, second: object) -> None:
        """Set ``.grad`` of the parameters, the gradient of the value being that of a function."""
        gradient = self.gradients[0]
        if first.dtype == gradient.dtype:
            function(first, second, out=gradient)
        else:
            gradient.copy_(function(first, second))
        self.spread_gradient()

    def spread_gradient(self) -> None:
        """Set ``.grad`` of the parameters; the first one's place holds the value's gradient."""
        gradient, *others = self.gradients
        for other, slope in zip(others, self.slopes[1:], strict=True):
            torch.mul(gradient, slope, out=other)
        if self.slopes[0] != 1:
            gradient *= self.slopes[0]
        self.attach_gradients()

    def attach_gradients(self) -> None:
        """Set ``.grad`` of the parameters."""
        for p, own in zip(self.parameters, self.gradients, strict=True):
            if p.grad is not own:
                p.grad = own

"""Weights, biases and their gradients for the chain rules written out here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mnist_exp.device.mapping import Mapping
from mnist_exp.models.parametrizations import parametrizations


def make_gradients(
    parameters: Iterable[nn.Parameter],
) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """Allocate the gradients of float32 parameters in one buffer.

    Returns
    -------
    buffer : Tensor
        [elements of all parameters].
    gradients : dict
        Each parameter's part of the buffer, with the parameter's shape and strides.
    """
    parameters = list(parameters)
    elements, device = sum(p.numel() for p in parameters), parameters[0].device
    buffer = torch.empty(elements, dtype=torch.float32, device=device)
    gradients, start = {}, 0
    for p in parameters:
        gradients[p] = buffer.as_strided(p.shape, p.stride(), start)
        start += p.numel()
    return buffer, gradients


def are_known(layer: nn.Module) -> bool:
    """Return whether `Weight` supports a layer's weight and bias: parameters, or device mappings.

    Both must be float32 and trained, and vectors must be contiguous.
    """
    behind = [mapping for of_weight in parametrizations(layer).values() for mapping in of_weight]
    return (
        all(isinstance(mapping, Mapping) for mapping in behind)
        and getattr(layer, "bias", None) is not None
        and all(p.requires_grad and p.dtype == torch.float32 for p in layer.parameters())
        and all(p.is_contiguous() for p in layer.parameters() if p.ndim == 1)
    )


class Weight:
    """A weight or bias in the chain rule: one parameter, or several mapped to it by devices.

    Parameters
    ----------
    layer, name
        The module and the weight's name in it.
    gradients : dict
        The gradient buffer of each parameter.
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
        """Return the current value that the layer uses."""
        value: Tensor = self.parameters[0]
        return value if self.mapping is None else self.mapping(*self.parameters)

    def set_gradient(self, function: Callable[..., Tensor], first: Tensor, second: object) -> None:
        """Set ``.grad`` of the parameters; the value's gradient is ``function(first, second)``."""
        gradient = self.gradients[0]
        if first.dtype == gradient.dtype:
            function(first, second, out=gradient)
        else:
            gradient.copy_(function(first, second))
        self.spread_gradient()

    def spread_gradient(self) -> None:
        """Set ``.grad`` of the parameters from the value's gradient, held in the first buffer."""
        gradient, *others = self.gradients
        for other, slope in zip(others, self.slopes[1:], strict=True):
            torch.mul(gradient, slope, out=other)
        if self.slopes[0] != 1:
            gradient *= self.slopes[0]
        self.attach_gradients()

    def attach_gradients(self) -> None:
        """Point ``.grad`` of the parameters to the buffers."""
        for p, own in zip(self.parameters, self.gradients, strict=True):
            if p.grad is not own:
                p.grad = own

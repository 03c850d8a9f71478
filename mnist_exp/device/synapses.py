"""Which parameters of a network devices hold, and one flat buffer for all their conductances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from mnist_exp.errors import UserError

SYNAPTIC_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd)


def find_synapses(model: nn.Module, with_bias: bool) -> list[tuple[nn.Module, str]]:
    """Return layer and parameter name of every synapse.

    Synapses are the weights, and with ``with_bias`` the biases, of linear and convolution layers.
    What normalisation layers learn stays free: it is computed outside the array.

    Raises
    ------
    UserError
        If there is none, or one is parametrized already.
    """
    names = ("weight", "bias") if with_bias else ("weight",)
    synapses: list[tuple[nn.Module, str]] = [
        (layer, name)
        for layer in model.modules()
        if isinstance(layer, SYNAPTIC_LAYERS)
        for name in names
        if getattr(layer, name) is not None
    ]
    if not synapses:
        raise UserError(
            f"constraint: {type(model).__name__} has no linear or convolution layer whose weights "
            "devices could hold; set constraint=none."
        )
    if any(parametrize.is_parametrized(layer, name) for layer, name in synapses):
        raise UserError(
            f"constraint: a weight of {type(model).__name__} is parametrized already; attach one "
            "constraint to a fresh model."
        )
    return synapses


def map_to_conductances(
    layer: nn.Module, name: str, mapping: Callable[[], nn.Module] | None
) -> list[nn.Parameter]:
    """Replace a parameter by the conductances that make it up and return those.

    Parameters
    ----------
    layer, name
        The parameter.
    mapping : callable or None
        Makes the parametrization; None leaves the parameter as it is.
    """
    if mapping is None:
        return [getattr(layer, name)]
    parametrize.register_parametrization(layer, name, mapping())
    return list(layer.parametrizations[name].parameters())  # type: ignore[union-attr,index]


def gather(parameters: list[nn.Parameter]) -> Tensor:
    """Move the values of parameters into one flat float32 buffer of which they become views.

    Elementwise work on all of them is then one call on the buffer.
    """
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    parts = flat.split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat

"""Which parameters of a network devices hold, and one flat buffer for all their conductances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from mnist_exp.errors import UserError
from mnist_exp.models.parametrizations import check_weights, full_name, parametrizations

SYNAPTIC_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd)


@dataclass(frozen=True)
class Synapse:
    """A parameter that devices hold, and where in the network it stands.

    Attributes
    ----------
    name : str
        Its full name in the network, the first one if it has several.
    places : list of (nn.Module, str)
        Layers that share the parameter, and its name in each.
    """

    name: str
    places: list[tuple[nn.Module, str]]

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter, before it is mapped to conductances."""
        layer, name = self.places[0]
        return layer.get_parameter(name)


def find_synapses(model: nn.Module, with_bias: bool) -> list[Synapse]:
    """Return every synapse of a network.

    Synapses are the weights, and with ``with_bias`` the biases, of linear and convolution layers.
    What normalisation layers learn stays free: it is computed outside the array. A parameter that
    several layers share is one synapse.

    Raises
    ------
    UserError
        If there is none, or one is no parameter of its layer, has no shape yet, is parametrized
        already or has its memory in common with another parameter.
    """
    check_weights(model, "constraint")
    names = ("weight", "bias") if with_bias else ("weight",)
    synapses: dict[nn.Parameter, Synapse] = {}
    for prefix, layer in model.named_modules():
        if not isinstance(layer, SYNAPTIC_LAYERS):
            continue
        for name in names:
            full = full_name(prefix, name)
            parameter = _parameter(layer, name, full)
            if parameter is not None:
                synapses.setdefault(parameter, Synapse(full, [])).places.append((layer, name))
    if not synapses:
        raise UserError(
            f"constraint: {type(model).__name__} has no linear or convolution layer whose weights "
            "devices could hold; set constraint=none."
        )
    _check_memory(model, synapses)
    return list(synapses.values())


def _parameter(layer: nn.Module, name: str, full: str) -> nn.Parameter | None:
    if parametrize.is_parametrized(layer, name):
        raise UserError(
            f"constraint: {full} ({type(layer).__bases__[0].__name__}) is parametrized already, by "
            "another constraint for instance; attach one to a fresh model whose weights are "
            "parameters, or set constraint=none."
        )
    value = getattr(layer, name)
    if value is not None and not isinstance(value, nn.Parameter):
        raise UserError(
            f"constraint: {full} ({type(layer).__name__}) is a {type(value).__name__} and no "
            "parameter of its layer, so that devices cannot hold it; make it an nn.Parameter, or "
            "set constraint=none."
        )
    return value


def _check_memory(model: nn.Module, synapses: Mapping[nn.Parameter, Synapse]) -> None:
    """Refuse parameters that are two objects in one memory: devices would hold each apart."""
    known: dict[object, tuple[str, nn.Parameter]] = {}
    for name, p in model.named_parameters():
        place = (p.untyped_storage().data_ptr(), p.storage_offset())
        other, parameter = known.setdefault(place, (name, p))
        if parameter is not p and p.numel() and (p in synapses or parameter in synapses):
            raise UserError(
                f"constraint: {name} and {other} are two parameters in the same memory, which "
                "devices cannot hold. Share the parameter itself (one.weight = other.weight), "
                "transposed where it is used, or set constraint=none."
            )


def map_to_conductances(
    model: nn.Module, synapse: Synapse, mapping: Callable[[], nn.Module] | None
) -> list[nn.Parameter]:
    """Replace a parameter by the conductances that make it up and return those.

    Layers that share it go on sharing: they read the same conductances.

    Parameters
    ----------
    model
        The network.
    synapse
        The parameter.
    mapping : callable or None
        Makes the parametrization; None leaves the parameter as it is.

    Raises
    ------
    UserError
        If something besides the synapse's layers holds the parameter, and would lose it.
    """
    parameter = synapse.parameter
    if mapping is None:
        return [parameter]
    for prefix, module in model.named_modules():
        for name, other in module._parameters.items():
            if other is parameter and (module, name) not in synapse.places:
                raise UserError(
                    f"constraint: {synapse.name} is {full_name(prefix, name)} "
                    f"({type(module).__name__}) as well, which devices do not hold. Give them "
                    "weights of their own, or set constraint.mapping=direct or constraint=none."
                )
    (first, first_name), *others = synapse.places
    for layer, name in others:
        # a stand-in, so that the shared parameter is taken over once
        setattr(layer, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    parametrize.register_parametrization(first, first_name, mapping())
    conductances = parametrizations(first)[first_name]
    for layer, name in others:
        parametrize.register_parametrization(layer, name, mapping())
        layer.parametrizations[name] = conductances  # type: ignore[index,assignment,operator]
    return list(conductances.parameters())


def gather(parameters: list[nn.Parameter]) -> Tensor:
    """Move the values of parameters into one flat float32 buffer of which they become views.

    Elementwise work on all of them is then one call on the buffer.
    """
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    parts = flat.split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat

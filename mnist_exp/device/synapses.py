"""Synapses of a network: finding, mapping to conductances, and their flat buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from mnist_exp.errors import UserError
from mnist_exp.models.parametrizations import check_weights, full_name, parametrizations

SYNAPTIC_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd)


@dataclass(frozen=True)
class Synapse:
    """A parameter held by devices, and its places in the network.

    Attributes
    ----------
    name : str
        Its full name in the network; the first one if several layers share it.
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

    Synapses are the weights, and with ``with_bias`` also the biases, of linear and convolution
    layers. Normalisation parameters stay free: they are applied outside the array. A parameter
    shared by several layers is one synapse.

    Raises
    ------
    UserError
        If the network has no synapse, or one is not a parameter of its layer, has no shape yet,
        is already parametrized or shares its memory with another parameter.
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
            f"constraint: {full} ({type(layer).__bases__[0].__name__}) is parametrized already, "
            "for instance by another constraint; attach one to a fresh model whose weights are "
            "parameters, or set constraint=none."
        )
    value = getattr(layer, name)
    if value is not None and not isinstance(value, nn.Parameter):
        raise UserError(
            f"constraint: {full} ({type(layer).__name__}) is a {type(value).__name__}, not a "
            "parameter of its layer, so devices cannot hold it; make it an nn.Parameter, or "
            "set constraint=none."
        )
    return value


def _check_memory(model: nn.Module, synapses: Mapping[nn.Parameter, Synapse]) -> None:
    """Refuse two parameters in the same memory: they would get separate devices."""
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
    """Replace a parameter by its conductances and return them.

    Layers that shared the parameter share its conductances.

    Parameters
    ----------
    model
        The network.
    synapse
        The parameter.
    mapping : callable or None
        Makes the parametrization; None leaves the parameter unchanged.

    Raises
    ------
    UserError
        If a module other than the synapse's layers uses the parameter.
    """
    parameter = synapse.parameter
    if mapping is None:
        return [parameter]
    for prefix, module in model.named_modules():
        for name, other in module._parameters.items():
            if other is parameter and (module, name) not in synapse.places:
                raise UserError(
                    f"constraint: {synapse.name} is {full_name(prefix, name)} "
                    f"({type(module).__name__}) as well, which is not on devices. Give each its "
                    "own weight, or set constraint.mapping=direct or constraint=none."
                )
    (first, first_name), *others = synapse.places
    for layer, name in others:
        # a stand-in: only the first layer takes over the shared parameter
        setattr(layer, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    parametrize.register_parametrization(first, first_name, mapping())
    conductances = parametrizations(first)[first_name]
    for layer, name in others:
        parametrize.register_parametrization(layer, name, mapping())
        layer.parametrizations[name] = conductances  # type: ignore[index,assignment,operator]
    return list(conductances.parameters())


def input_lines(synapses: list[Synapse], conductances: list[list[nn.Parameter]]) -> list[Tensor]:
    """Return which devices of the flat buffer are on each input line of each array.

    An array holds one conductance of every weight of a synapse. Its input lines are the inputs of a
    linear layer, and each position of the kernel in each channel (of its group) in a convolution;
    of a transposed one they are the channels. A bias has one line.

    Parameters
    ----------
    synapses : list of Synapse
        In the order of the buffer.
    conductances : list of list of nn.Parameter
        The conductances of each.

    Returns
    -------
    list of Tensor
        Indices of devices, int64 [lines, devices of a line], one of each parameter.
    """
    found: list[Tensor] = []
    first = 0
    for synapse, parameters in zip(synapses, conductances, strict=True):
        layer, name = synapse.places[0]
        for p in parameters:
            devices = torch.arange(first, first + p.numel(), device=p.device)
            first += p.numel()
            by_row = devices.view(len(p), -1) if p.numel() else devices.view(0, 1)
            found.append(
                by_row
                if isinstance(layer, _ConvTransposeNd) and name == "weight"
                else by_row.T.contiguous()
            )
    return found


def gather(parameters: list[nn.Parameter]) -> Tensor:
    """Move parameters into one flat float32 buffer, of which they become views.

    Elementwise work on all of them then takes one call.
    """
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    parts = flat.split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat

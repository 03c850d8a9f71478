"""Which conductances hold the weights of a finished network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mnist_exp.device.constraint import DeviceConstraint
from mnist_exp.device.mapping import Mapping, read_exactly
from mnist_exp.device.reading.reading import Pair
from mnist_exp.device.settings import DeviceSettings
from mnist_exp.device.synapses import find_synapses
from mnist_exp.errors import UserError
from mnist_exp.models.parametrizations import full_name, parametrizations

IN_PAIRS = "programmed on pairs of devices, g = |w| / max |w| of the layer on one of the two"


@dataclass(frozen=True)
class Array:
    """The devices that hold one weight of a network.

    Attributes
    ----------
    name : str
        The weight's full name; the first one if several layers share it.
    targets : tuple of Tensor
        Conductances in shares of ``g_max``, one tensor of the weight's shape for each device.
    weight : callable
        From such conductances to the weight.
    weight_range : float or None
        Largest weight that the devices can hold; None: it has no bound.
    pair : callable or None
        From such conductances to the pair that currents follow from; None: one device is off.
    """

    name: str
    targets: tuple[Tensor, ...]
    weight: Callable[..., Tensor]
    weight_range: float | None
    pair: Callable[..., Pair] | None = None

    @property
    def layer(self) -> str:
        """Full name of the layer."""
        return self.name.rpartition(".")[0]


def in_pairs(network: nn.Module) -> list[Array]:
    """Map the weights of linear and convolution layers to pairs of devices; biases stay digital.

    A weight is ``w = s (g_plus - g_minus)`` with ``s = max |w|`` of the layer; one device of each
    pair is at 0. This is the mapping of V. Joshi et al., Nature Communications 11:2473, 2020.
    """
    return [_pair(s.name, s.parameter.detach()) for s in find_synapses(network, with_bias=False)]


def _pair(name: str, weight: Tensor) -> Array:
    scale = weight.abs().max().clamp(min=1e-30)  # a layer of zeros
    targets = ((weight / scale).clamp_(min=0), (-weight / scale).clamp_(min=0))

    def difference(g_plus: Tensor, g_minus: Tensor) -> Tensor:
        return (g_plus - g_minus) * scale

    return Array(name, targets, difference, float(scale), lambda *pair: (*pair, scale))


def holds_physical_devices(constraint: object) -> bool:
    """Return whether a run's conductances can be those of devices: none stands for both signs."""
    return isinstance(constraint, DeviceConstraint) and (
        constraint.mapping != "direct" or constraint.W_min >= 0
    )


def as_trained(model: nn.Module, constraint: object) -> tuple[list[Array], str]:
    """Return the devices that a network was trained on, and in words what they are.

    ``g = G / W_max``, or where conductances are counted from another point than 0 (``W_min < 0``),
    ``g = (G - W_min) / (W_max - W_min)``. The constraint's own mapping makes weights of them.

    Raises
    ------
    UserError
        If the network was not trained on devices, or if they hold both signs.
    """
    if not isinstance(constraint, DeviceConstraint) or not holds_physical_devices(constraint):
        what = "has no devices"
        if isinstance(constraint, DeviceConstraint):
            what = f"has mapping=direct and W_min={constraint.W_min}, below 0, which no device can"
            what += " hold"
        raise UserError(
            f"evaluation.program=false: the run {what}; leave it out, and the weights are "
            "programmed on pairs of devices."
        )
    low, span = 0.0, constraint.W_max
    words = "G / W_max"
    if constraint.W_min < 0:
        low, span = constraint.W_min, constraint.W_max - constraint.W_min
        words = "(G - W_min) / (W_max - W_min)"
    arrays = [
        _kept(name, [(G - low) / span for G in conductances], mapping, low, constraint)
        for name, conductances, mapping in _conductances(model, constraint)
    ]
    return arrays, f"as trained on devices, mapping={constraint.mapping}, g = {words}"


def _kept(
    name: str,
    shares: list[Tensor],
    mapping: Mapping | None,
    low: float,
    constraint: DeviceConstraint,
) -> Array:
    span, on = constraint.W_max - low, constraint.W_max

    def weight(*shares: Tensor) -> Tensor:
        conductances = [g * span + low for g in shares]
        return conductances[0] if mapping is None else mapping(*conductances)

    def pair(*shares: Tensor) -> Pair:
        assert mapping is not None
        G_plus, G_minus = mapping.pair(*(g * span + low for g in shares))
        return G_plus / on, G_minus / on, mapping.gain * on

    both = None if mapping is None else pair
    return Array(name, tuple(shares), weight, constraint.weight_range, both)


def _conductances(
    model: nn.Module, settings: DeviceSettings
) -> list[tuple[str, list[Tensor], Mapping | None]]:
    """Return the name, the conductances as read, and the mapping of each weight on devices."""
    found: dict[object, tuple[str, list[Tensor], Mapping | None]] = {}
    for prefix, layer in model.named_modules():
        for name, behind in parametrizations(layer).items():
            (mapping,) = behind
            if not isinstance(mapping, Mapping) or behind in found:
                continue
            read = [mapping.read(p.detach()) for p in behind.parameters(recurse=False)]
            found[behind] = (full_name(prefix, name), read, _exact(mapping))
    if found:
        return list(found.values())
    synapses = find_synapses(model, settings.bias == "constrained")
    return [(s.name, [s.parameter.detach()], None) for s in synapses]


def _exact(mapping: Mapping) -> Mapping:
    """Return a mapping without rounding: devices do not drift from level to level."""
    exact = copy.copy(mapping)
    exact.read = read_exactly
    return exact

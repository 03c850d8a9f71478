"""Reading in place of the exact products of a network's linear and convolution layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from mnist_exp.device.reading.read_layer import ReadLayer, Stream
from mnist_exp.device.reading.reading import Reading
from mnist_exp.device.synapses import SYNAPTIC_LAYERS
from mnist_exp.errors import UserError
from mnist_exp.models.parametrizations import check_weights, parametrizations


def read_layers(
    model: nn.Module,
    reading: Reading,
    stream: Stream,
    weight_range: float | None = None,
    on: float | None = None,
) -> dict[str, ReadLayer]:
    """Have the products of all linear and convolution layers read; return them by layer name.

    Parameters as in `ReadLayer`, for all layers.

    Raises
    ------
    UserError
        If a layer is of a kind that cannot be read, before any is changed.
    """
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SYNAPTIC_LAYERS):
            found[name] = ReadLayer(_readable(name, layer), reading, stream, weight_range, on)
    for read in found.values():
        read.layer.forward = read  # type: ignore[method-assign]
    return found


def _readable(name: str, layer: nn.Module) -> Any:
    """Return the layer; refuse any other than torch's own: they may use their weight otherwise."""
    kind = type(layer).__bases__[0] if parametrizations(layer) else type(layer)
    if kind not in (nn.Linear, nn.Conv2d):
        raise UserError(
            f"constraint.read: {name or 'the model'} is a {kind.__name__}, whose product cannot be "
            "read from an array; allowed are torch.nn.Linear and torch.nn.Conv2d themselves. Use "
            "these, or set constraint.read=null."
        )
    before = vars(layer).get("forward")
    if before is not None and not isinstance(before, ReadLayer):
        raise UserError(
            f"constraint.read: {name or 'the model'} ({kind.__name__}) has a forward of its own, "
            "which reading would replace; remove it, or set constraint.read=null."
        )
    return layer


@contextmanager
def reading_on(
    model: nn.Module,
    reading: Reading,
    seed: int,
    weight_ranges: Mapping[str, float] | None = None,
) -> Iterator[dict[str, ReadLayer]]:
    """Read the products of a network from arrays in a block; yield the layers by name.

    Parameters
    ----------
    model : nn.Module
        With or without a device constraint, on its compute device.
    reading : Reading
        Instead of the constraint's, if that has one.
    seed : int
        Of everything random, non-negative; `restarted` starts there again.
    weight_ranges : mapping or None
        `ReadLayer.weight_range` by layer name; layers not named keep the constraint's, or have
        their largest weight at each read.

    Raises
    ------
    UserError
        If a layer cannot be read.
    """
    check_weights(model, "constraint.read")
    layers = [layer for layer in model.modules() if isinstance(layer, SYNAPTIC_LAYERS)]
    before = {layer: vars(layer).get("forward") for layer in layers}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = read_layers(model, reading, Stream(seed, device))
    for name, read in found.items():
        old = before[read.layer]
        if isinstance(old, ReadLayer):
            read.weight_range, read.on = old.weight_range, old.on
        read.weight_range = (weight_ranges or {}).get(name, read.weight_range)
    try:
        yield found
    finally:
        for layer, old in before.items():
            vars(layer).pop("forward", None)
            if old is not None:
                layer.forward = old  # type: ignore[method-assign]


@contextmanager
def exact_products(model: nn.Module) -> Iterator[None]:
    """Compute the products of a network exactly in a block, whatever reads them."""
    read = [(m, m.forward) for m in model.modules() if reader_of(m) is not None]
    for module, _ in read:
        del module.forward
    try:
        yield
    finally:
        for module, forward in read:
            module.forward = forward


def reader_of(layer: nn.Module) -> ReadLayer | None:
    """Return what reads the product of a layer, if anything."""
    forward = vars(layer).get("forward")
    return forward if isinstance(forward, ReadLayer) else None


def is_read(model: nn.Module) -> bool:
    """Return whether products of a network are read from arrays."""
    return any(reader_of(module) is not None for module in model.modules())


@contextmanager
def restarted(model: nn.Module) -> Iterator[None]:
    """Draw a network's readings from their seed in a block, and continue after it.

    Evaluations in it depend on nothing that was read before, and change nothing that is read after.
    """
    readers = map(reader_of, model.modules())
    streams = {reader.stream: reader.layer for reader in readers if reader is not None}
    with ExitStack() if streams else nullcontext() as stack:
        for stream, layer in streams.items():
            assert stack is not None
            stack.enter_context(stream.restarted(layer.weight.device))
        yield

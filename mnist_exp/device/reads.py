"""What a network reads of its arrays for one sample, counted as it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mnist_exp.device.read_counts import Reads
from mnist_exp.device.reading.layers import reader_of, restarted


def reads_of_a_sample(
    model: nn.Module, layers: Iterable[nn.Module], sample: Tensor
) -> tuple[Reads, Reads]:
    """Return the reads of one sample in the forward and in the backward pass.

    The network runs once, in eval mode. A layer that computes without a call of its own, such as
    by ``F.linear(x, layer.weight)``, is not seen.

    Parameters
    ----------
    model : nn.Module
        The network; its mode is restored.
    layers : iterable of nn.Module
        Those whose weights are on arrays.
    sample : Tensor
        One input, [1, ...].
    """
    passes = [Reads(), Reads()]  # forward, backward

    def note(
        layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor
    ) -> None:
        given = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor)]
        forward, backward = _of_call(layer, given[0], output)
        passes[0] += forward
        if any(x.requires_grad for x in given):
            passes[1] += backward

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    was_training = model.training
    try:
        with torch.enable_grad(), restarted(model):
            model.eval()(sample)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return passes[0], passes[1]


def _of_call(layer: nn.Module, x: Tensor, output: Tensor) -> tuple[Reads, Reads]:
    """Return the reads of one call of a layer, forward and backward."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    ends = weight[0].numel(), len(weight) // groups  # inputs and outputs of a group's array
    if isinstance(layer, _ConvTransposeNd):
        vectors, ends = x.numel() // layer.in_channels, ends[::-1]
    elif isinstance(layer, _ConvNd):
        vectors = output.numel() // layer.out_channels
    else:
        vectors = output.numel() // output.shape[-1]
    reader = reader_of(layer)
    each = (sum(ends), sum(ends)) if reader is None else reader.reading.conversions(*ends)
    forward, backward = (Reads(1, conversions) * (vectors * groups) for conversions in each)
    return forward, backward

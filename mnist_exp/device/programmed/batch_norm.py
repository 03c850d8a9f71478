"""BatchNorm's statistics, taken anew for weights that changed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running means and variances to their means over batches; weights stay as they are.

    So networks on phase-change memory are recalibrated in V. Joshi et al., Nature Communications
    11:2473, 2020 (adaptive batch normalisation).

    Parameters
    ----------
    network : nn.Module
        In eval mode, in which it is left; changed in place.
    batches : iterable of Tensor
        Inputs [B, C, H, W] of equal size, at least one.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    before = [layer.momentum for layer in layers]
    for count, inputs in enumerate(batches, start=1):
        for layer in layers:
            layer.train()
            layer.momentum = 1 / count  # a running mean over all batches so far
        network(inputs)
    for layer, momentum in zip(layers, before, strict=True):
        layer.eval()
        layer.momentum = momentum

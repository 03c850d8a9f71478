"""Exponential moving averages of the weights, with a warm-up of the decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Update = Callable[[Sequence[Tensor], Sequence[Tensor], "Tensor | int"], None]


def averaged_model(model: nn.Module, decay: float, warmup: bool = True) -> AveragedModel:
    """Return the moving average of a network, buffers included, to update after each step.

    It starts from the weights after the first step. BatchNorm statistics are averaged like the
    weights, so that both stay consistent.

    Parameters
    ----------
    model : nn.Module
        Copied.
    decay : float
        In (0, 1), of ``average <- decay * average + (1 - decay) * weights``.
    warmup : bool
        Whether the decay grows to ``decay``, as in `growing_decay`.
    """
    update = warmed_up(decay) if warmup else get_ema_multi_avg_fn(decay)
    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def growing_decay(decay: float, updates: int) -> float:
    """Return the decay after n updates: ``min(decay, (1 + n) / (10 + n))``.

    Early on, the average covers about the last tenth of the steps. The decay reaches 0.99 after
    890 steps, and a few hundred more outweigh the start. The formula is that of TensorFlow's
    ``ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def warmed_up(decay: float) -> Update:
    """Return an update function with a growing decay for torch's ``AveragedModel``."""

    def update(
        averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int
    ) -> None:
        now = growing_decay(decay, int(updates))
        get_ema_multi_avg_fn(now)(averages, weights, updates)

    return update

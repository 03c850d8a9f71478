"""Exponential moving averages of the weights, and how they leave their start behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Update = Callable[[Sequence[Tensor], Sequence[Tensor], "Tensor | int"], None]


def averaged_model(model: nn.Module, decay: float, warmup: bool = True) -> AveragedModel:
    """Return the moving average of a network, buffers included, to be updated after each step.

    It begins with the weights after the first step. The statistics of BatchNorm are averaged as
    the weights are, so that the two always belong together.

    Parameters
    ----------
    model : nn.Module
        Copied.
    decay : float
        In (0, 1), of ``average <- decay * average + (1 - decay) * weights``.
    warmup : bool
        Whether the decay grows to ``decay``, as `growing_decay` says.
    """
    update = warmed_up(decay) if warmup else get_ema_multi_avg_fn(decay)
    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def growing_decay(decay: float, updates: int) -> float:
    """Return the decay after some updates: ``min(decay, (1 + n) / (10 + n))``.

    So about the last tenth of the steps counts while a training is short; 0.99 is reached after
    890 steps, and what came before is forgotten after a few hundred more. The formula is that of
    TensorFlow's ``ExponentialMovingAverage(decay, num_updates)``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def warmed_up(decay: float) -> Update:
    """Return the update of a moving average whose decay grows, for torch's ``AveragedModel``."""

    def update(
        averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int
    ) -> None:
        now = growing_decay(decay, int(updates))
        get_ema_multi_avg_fn(now)(averages, weights, updates)

    return update

"""Steps of optimizers that evaluate a batch several times, such as LBFGS."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_exp.cpu.threads import available, cpu_threads
from mnist_exp.train.backprop.choose import Backpropagation
from mnist_exp.train.random_state import random_state, set_random_state


class Reevaluated:
    """Backpropagation of a batch that the optimizer's step repeats as often as it likes.

    Each repetition draws the random numbers (of dropout) of the first. BatchNorm's running
    statistics count the batch once. Loss and logits are those of the first evaluation; the
    parameters' ``.grad`` is left by the last.

    Parameters
    ----------
    backpropagate : Backpropagation
        Of the network.
    model : nn.Module
        The network.
    optimizer : Optimizer
        Its ``step`` takes a closure.
    """

    def __init__(
        self, backpropagate: Backpropagation, model: nn.Module, optimizer: Optimizer
    ) -> None:
        self.backpropagate = backpropagate
        self.parameters = list(model.parameters())
        self.buffers = list(model.buffers())
        self.optimizer = optimizer

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        self.batch = inputs, labels
        self.random = random_state(inputs.device)
        loss, logits = self.backpropagate(inputs, labels)
        self.first: Tensor | None = loss
        return loss, logits

    def step(self, loss: float) -> float:
        """Take the optimizer's step on the batch; return ``loss``, the first evaluation's.

        If weights become NaN or infinite, undo the step, clear the optimizer's memory and return
        NaN.
        """
        weights, statistics = ([t.detach().clone() for t in ts] for ts in self._tensors())
        self.optimizer.step(self._closure)  # type: ignore[arg-type]
        _restore(self.buffers, statistics)
        del self.batch
        if all(bool(p.isfinite().all()) for p in self.parameters):
            return loss
        _restore(self.parameters, weights)
        self.optimizer.state.clear()
        return math.nan

    def _tensors(self) -> tuple[list[nn.Parameter], list[Tensor]]:
        return self.parameters, self.buffers

    def _closure(self) -> Tensor:
        """Set ``.grad`` of the parameters as they are now, and return the loss."""
        if self.first is not None:  # just evaluated
            loss, self.first = self.first, None
            return loss
        inputs, labels = self.batch
        set_random_state(inputs.device, self.random)
        with cpu_threads(available()):  # as many as for the first evaluation
            return self.backpropagate(inputs, labels)[0]


def _restore(tensors: list[nn.Parameter] | list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)

"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from mnist_exp.cpu.ops import correct_predictions, threads_for
from mnist_exp.data.batches import Augmentation
from mnist_exp.errors import UserError
from mnist_exp.train.backprop.choose import backpropagation
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState


@dataclass(frozen=True)
class Recipe:
    """The fixed settings of a training.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images per optimizer step; the last batch of an epoch may be smaller.
    label_smoothing : float
        Share of the target spread over all classes.
    precision : {"fp32", "bf16"}
        Of convolutions and matrix products, except small ones; weights stay float32.
    on_nan : {"stop", "skip"}
        Response to a batch whose loss is not finite.
    augmentation : Augmentation or None
        Applied to the pixels of a training batch before normalisation.
    """

    epochs: int = 10
    batch_size: int = 128
    label_smoothing: float = 0.0
    precision: str = "fp32"
    on_nan: str = "stop"
    augmentation: Augmentation | None = None


class Batches(Protocol):
    """Training data on the compute device, such as `mnist_exp.data.batches.Images`."""

    @property
    def device(self) -> torch.device:
        """Where the batches live."""

    def batch(
        self, indices: Tensor, augmentation: Augmentation | None, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return network inputs [B, ...] and int64 labels [B] of ``indices``."""


class Evaluate(Protocol):
    """Metrics of a model at the end of an epoch, such as validation loss and accuracy."""

    def __call__(self, model: nn.Module) -> Row:
        """Return the columns to add to the epoch's row."""


class LossNotFinite(UserError):
    """The loss became NaN or infinite."""


def train(
    state: TrainState,
    images: Batches,
    indices: Tensor,
    recipe: Recipe,
    evaluate: Evaluate,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train ``state.model`` until ``recipe.epochs`` epochs are complete.

    Continues from ``state``, even mid-epoch. Each epoch adds a row to ``state.history``.

    Parameters
    ----------
    state : TrainState
        Changed in place.
    images : Batches
        The data on the compute device.
    indices : Tensor
        int64, the images to train on.
    recipe : Recipe
        The fixed settings.
    evaluate : callable
        Metrics to report with each epoch.
    callbacks : sequence of Callback
        Called in order at each milestone.

    Raises
    ------
    LossNotFinite
        If a loss is NaN or infinite and ``recipe.on_nan`` is "stop".
    """
    model, optimizer, scheduler = state.model, state.optimizer, state.scheduler
    for callback in callbacks:
        callback.on_train_start(state)
    size = sum(p.numel() for p in model.parameters())
    while state.epoch < recipe.epochs:
        state.begin_epoch(indices)
        model.train()
        backpropagate = backpropagation(model, recipe.label_smoothing, recipe.precision)
        started = time.perf_counter() - state.seconds
        for batch in state.remaining_batches(recipe.batch_size):
            inputs, labels = images.batch(batch, recipe.augmentation, state.generator)
            for callback in callbacks:
                callback.on_batch_start(state, batch, inputs)
            loss, logits = backpropagate(inputs, labels)
            with threads_for(size):
                loss_value = loss.item()
                state.lr = optimizer.param_groups[0]["lr"]  # before the scheduler moves it
                if math.isfinite(loss_value):
                    optimizer.step()
                elif recipe.on_nan == "stop":
                    raise LossNotFinite(_not_finite_message(state, loss_value))
                if state.constraint is not None:
                    state.constraint.step()
                if state.averaged is not None:
                    state.averaged.update_parameters(model)
                if scheduler is not None and state.scheduler_interval == "step":
                    scheduler.step()
                correct = correct_predictions(logits, labels)
            state.end_batch(loss_value, correct, len(labels))
            del inputs  # so that the next batch reuses this memory while it is in cache
            state.seconds = time.perf_counter() - started
            for callback in callbacks:
                callback.on_batch_end(state, loss_value)
        row = state.end_epoch()
        if scheduler is not None and state.scheduler_interval == "epoch":
            scheduler.step()
        row |= evaluate(state.evaluated_model)
        state.history.append(row)
        for callback in callbacks:
            callback.on_epoch_end(state, row)


def _not_finite_message(state: TrainState, loss: float) -> str:
    lr = state.optimizer.param_groups[0]["lr"]
    return (
        f"the loss is {loss} in epoch {state.epoch + 1}, batch {state.batch + 1}, at learning rate "
        f"{lr:g}. Try a lower learning rate (optimizer.lr, scheduler.max_lr), "
        "training.precision=fp32, or training.on_nan=skip to leave such batches out."
    )

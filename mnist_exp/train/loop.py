"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Protocol

from torch import nn

from mnist_exp.cpu.ops import correct_predictions, threads_for
from mnist_exp.errors import UserError
from mnist_exp.optim.schedule import steps_alone
from mnist_exp.train.backprop.choose import backpropagation
from mnist_exp.train.callback import Callback, notify
from mnist_exp.train.closure import Reevaluated
from mnist_exp.train.monitor import monitored
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Batches, Recipe, Training

__all__ = ["Batches", "Evaluate", "LossNotFinite", "Recipe", "Training", "train"]


class Evaluate(Protocol):
    """Metrics of a model at the end of an epoch, such as validation loss and accuracy."""

    def __call__(self, model: nn.Module) -> Row:
        """Return the columns to add to the epoch's row."""


class LossNotFinite(UserError):
    """The loss became NaN or infinite."""


def train(
    state: TrainState,
    training: Training,
    evaluate: Evaluate,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train ``state.model`` until its epochs are complete or a callback stops it.

    Continues from ``state``, even mid-epoch. Each epoch adds a row to ``state.history``.

    Parameters
    ----------
    state : TrainState
        Changed in place.
    training : Training
        Data and fixed settings.
    evaluate : callable
        Metrics to report with each epoch.
    callbacks : sequence of Callback
        Called in order at each milestone.

    Raises
    ------
    LossNotFinite
        If a loss is NaN or infinite and ``training.recipe.on_nan`` is "stop".
    """
    images, indices, recipe = training.images, training.indices, training.recipe
    model, optimizer, scheduler = state.model, state.optimizer, state.scheduler
    state.start_clock()
    notify(callbacks, "on_train_start", state, training)
    size = sum(p.numel() for p in model.parameters())
    repeats = not steps_alone(optimizer)
    while not state.finished(recipe.epochs):
        state.begin_epoch(indices)
        model.train()
        backpropagate = backpropagation(
            model, recipe.label_smoothing, recipe.precision, recipe.loss
        )
        repeated = Reevaluated(backpropagate, model, optimizer) if repeats else None
        started = time.perf_counter() - state.seconds
        for batch in state.remaining_batches(recipe.batch_size):
            inputs, labels = images.batch(batch, recipe.augmentation, state.generator)
            notify(callbacks, "on_batch_start", state, batch, inputs)
            loss, logits = (repeated or backpropagate)(inputs, labels)
            with threads_for(size):
                loss_value = loss.item()
                state.lr = optimizer.param_groups[0]["lr"]  # before the scheduler moves it
                if repeated is not None and math.isfinite(loss_value):
                    loss_value = repeated.step(loss_value)
                elif math.isfinite(loss_value):
                    optimizer.step()
                if recipe.on_nan == "stop" and not math.isfinite(loss_value):
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
            notify(callbacks, "on_batch_end", state, loss)
            step = training.steps(state)
            if training.logs(step):
                row = {"epoch": state.epoch + 1, "step": step, "loss": loss_value}
                row |= {"accuracy": correct / len(labels), "lr": state.lr}
                notify(callbacks, "on_step_logged", state, row)
        step = training.steps(state)
        row = state.end_epoch() | {"step": step}
        row |= evaluate(state.evaluated_model)
        if scheduler is not None and state.scheduler_interval == "epoch":
            watched = state.scheduler_monitor
            values = [] if watched is None else [monitored(row, watched)]
            scheduler.step(*values)  # type: ignore[arg-type]
        state.history.append(row)
        notify(callbacks, "on_epoch_end", state, row)


def _not_finite_message(state: TrainState, loss: float) -> str:
    lr = state.optimizer.param_groups[0]["lr"]
    return (
        f"the loss is {loss} in epoch {state.epoch + 1}, batch {state.batch + 1}, at learning rate "
        f"{lr:g}. Try a lower learning rate (optimizer.lr, scheduler.max_lr), "
        "training.precision=fp32, or training.on_nan=skip to leave such batches out."
    )

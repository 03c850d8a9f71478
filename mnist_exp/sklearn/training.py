"""Training behind the classifier: state, serialisation, scheduler, the parts of `train`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mnist_exp.callbacks.progress import Progress
from mnist_exp.data.batches import Features
from mnist_exp.data.input_scale import scale_warning
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.sklearn.device_parameters import build_constraint
from mnist_exp.sklearn.sample_weights import Samples, WeightedCrossEntropy
from mnist_exp.sklearn.validation import hold_back
from mnist_exp.train.callback import notify
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.loop import train
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Recipe, Training

# torch's global generators belong to the caller, so their state is neither saved nor restored.
NO_GLOBAL_RANDOMNESS = {"torch_random": None, "device_random": None}


def fresh_state(
    settings: Mapping[str, Any], num_features: int, num_classes: int, seed: int
) -> TrainState:
    """Return the training state of a network with fresh weights on devices.

    Parameters
    ----------
    settings : mapping
        Parameters of the classifier.
    num_features, num_classes : int
        Size of the input and output layers.
    seed : int
        Seed of weights, data order and devices.
    """
    device = compute_device(settings["device"])
    model = MLP(
        hidden_sizes=[int(settings["hidden_dim"])],
        num_classes=num_classes,
        activation="relu",
        dropout=0.0,
        in_features=num_features,
        generator=torch.Generator().manual_seed(seed),  # not torch's global one
    ).to(device)
    constraint = build_constraint(settings)
    constraint.attach(model, seed=seed)
    rates = {name: settings[name] for name in ("lr_pos", "lr_neg", "momentum")}
    optimizer = AsymmetricSGD(model.parameters(), **rates)
    constraint.follow(optimizer)
    return TrainState(
        model=model,
        optimizer=optimizer,
        generator=torch.Generator(device).manual_seed(seed),
        constraint=constraint,
    )


def state_bytes(state: TrainState) -> bytes:
    """Return a state as bytes, which pickle and copy handle without further code."""
    buffer = io.BytesIO()
    torch.save(state.state_dict() | NO_GLOBAL_RANDOMNESS, buffer)
    return buffer.getvalue()


def load_state_bytes(state: TrainState, saved: bytes) -> None:
    """Load a saved state into a fresh one, except for learning rates and momentum.

    Raises
    ------
    UserError
        If the network or its devices are not those of the saved state.
    """
    group = state.optimizer.param_groups[0]
    rates = {name: group[name] for name in ("lr", "neg_to_pos", "momentum")}
    content = torch.load(io.BytesIO(saved), map_location=state.generator.device, weights_only=True)
    try:
        state.load_state_dict(content | NO_GLOBAL_RANDOMNESS)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            "the network cannot continue from the last call, as hidden_dim or a setting of its "
            f"devices has changed. Set it back, or train anew with warm_start=False. ({error})"
        ) from error
    state.stopped = None  # ended that call alone
    state.optimizer.param_groups[0].update(rates)


def build_scheduler(name: str, state: TrainState, steps: int) -> LRScheduler | None:
    """Return the scheduler, None if constant; the optimizer's rates are the peaks of a cycle.

    Raises
    ------
    UserError
        If the cycle has a single step.
    """
    if name == "constant":
        return None
    if steps == 1:
        raise UserError(
            "scheduler='onecycle': a single step uses only the last rate of the cycle, near 0. "
            "Use more epochs, smaller batches or scheduler='constant'."
        )
    group = state.optimizer.param_groups[0]
    return OneCycleLR(
        state.optimizer,
        max_lr=group["lr"],
        total_steps=steps,
        cycle_momentum=group["momentum"] > 0,
    )


def train_until(
    state: TrainState, samples: Samples, epochs: int, parameters: Mapping[str, Any], seed: int
) -> float | None:
    """Train until ``epochs`` epochs are complete; return the validation score of the weights.

    Parameters
    ----------
    state : TrainState
        Changed in place.
    samples : Samples
        With early stopping, some of them are held back.
    epochs : int
        In all, counting those of the state.
    parameters : mapping
        Of the classifier.
    seed : int
        Decides which samples are held back.
    """
    device = state.generator.device
    features = Features(samples.X, samples.labels, device)
    trained = np.arange(len(samples.X))
    validation = loss = None
    if parameters["early_stopping"]:
        trained, validation = hold_back(features, samples.own, parameters, seed)
    if samples.weighted:
        loss = WeightedCrossEntropy(samples.weights, parameters["label_smoothing"], device)
    recipe = Recipe(
        epochs=epochs,
        batch_size=int(parameters["batch_size"]),
        label_smoothing=parameters["label_smoothing"],
        loss=loss,
    )
    training = Training(features, torch.from_numpy(trained).to(device), recipe)
    steps = (epochs - state.epoch) * training.batches
    state.scheduler = build_scheduler(parameters["scheduler"], state, steps)
    progress = Progress() if parameters["verbose"] else None
    callbacks = [part for part in (validation, loss, progress) if part is not None]
    try:
        train(state, training, validation or _unmeasured, callbacks)
    finally:
        notify(callbacks, "close")
    if validation is None:
        return None
    if progress and state.stopped is not None:
        print(f"stopped early: {state.stopped}")
    validation.restore(state)
    return validation.highest


def _unmeasured(model: nn.Module) -> Row:
    return {}


def wrong_scales(X: np.ndarray, state: TrainState) -> list[str]:
    """Return warnings about features or device ranges of an unsuitable scale."""
    low, high = X.min().item(), X.max().item()
    scaled = f"X / {high:g}" if low >= 0 and high > 1 else "sklearn's StandardScaler"
    sentence = scale_warning(torch.tensor(X), f"Give {scaled}.")
    found = [f"X: {sentence}"] if sentence else []
    if state.epoch == 0 and state.constraint is not None:
        ranges = state.constraint.range_warnings
        found += [warning.replace("constraint.", "") for warning in ranges]
    return found

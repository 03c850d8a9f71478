"""Training behind the classifier: state, serialisation, scheduler and warnings."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mnist_exp.data.input_scale import scale_warning
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.sklearn.device_parameters import build_constraint
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.loop import Recipe
from mnist_exp.train.state import TrainState

SCHEDULERS = ("onecycle", "constant")
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
    return TrainState(
        model=model,
        optimizer=AsymmetricSGD(model.parameters(), **rates),
        generator=torch.Generator(device).manual_seed(seed),
        constraint=constraint,
    )


def state_bytes(state: TrainState) -> bytes:
    """Return a state as bytes, which pickle and copy handle without further code."""
    buffer = io.BytesIO()
    torch.save(state.state_dict() | NO_GLOBAL_RANDOMNESS, buffer)
    return buffer.getvalue()


def load_state_bytes(state: TrainState, saved: bytes) -> None:
    """Load a saved state into a fresh one, except for learning rates and momentum."""
    group = state.optimizer.param_groups[0]
    rates = {name: group[name] for name in ("lr", "neg_to_pos", "momentum")}
    content = torch.load(io.BytesIO(saved), map_location=state.generator.device, weights_only=True)
    state.load_state_dict(content | NO_GLOBAL_RANDOMNESS)
    state.optimizer.param_groups[0].update(rates)


def build_scheduler(
    name: str, state: TrainState, recipe: Recipe, num_samples: int
) -> LRScheduler | None:
    """Return the scheduler, None if constant; the optimizer's rates are the peaks of a cycle.

    Raises
    ------
    UserError
        If the name is unknown, or the cycle has a single step.
    """
    if name not in SCHEDULERS:
        raise UserError(f"scheduler={name!r}: allowed are {', '.join(SCHEDULERS)}.")
    if name == "constant":
        return None
    steps = recipe.epochs * ceil(num_samples / recipe.batch_size)
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


def wrong_scales(X: Tensor, state: TrainState) -> list[str]:
    """Return warnings about features or device ranges of an unsuitable scale."""
    low, high = X.min().item(), X.max().item()
    scaled = f"X / {high:g}" if low >= 0 and high > 1 else "sklearn's StandardScaler"
    sentence = scale_warning(X, f"Give {scaled}.")
    found = [f"X: {sentence}"] if sentence else []
    if state.epoch == 0 and state.constraint is not None:
        ranges = state.constraint.range_warnings
        found += [warning.replace("constraint.", "") for warning in ranges]
    return found

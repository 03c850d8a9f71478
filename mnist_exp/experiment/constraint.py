"""Build the device constraint of a run with the user's effects."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from mnist_exp.device import DeviceConstraint
from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import call_nested, call_target, plain_values


def build_constraint(config: DictConfig) -> DeviceConstraint | None:
    """Build the constraint and its ``effects``; return None if weights are not on devices.

    Raises
    ------
    UserError
        If a setting of the constraint or of an effect is wrong.
    """
    entries = plain_values(config.constraint).get("effects") or []
    effects = [_effect(entry, number) for number, entry in enumerate(entries)]
    # left out where empty: a constraint of the user's own may take none
    constraint: DeviceConstraint | None = call_target(
        config, "constraint", **({"effects": effects} if effects else {})
    )
    return constraint


def attach(constraint: DeviceConstraint, model: nn.Module, seed: int) -> None:
    """Put a model on devices; ``seed`` draws their variation.

    Raises
    ------
    UserError
        If ``constraint`` is none, such as an update scheme or a reading, or cannot hold the model.
    """
    if not hasattr(constraint, "attach"):
        raise UserError(
            f"constraint._target_: makes a {type(constraint).__name__}, no constraint, as it has "
            "no attach(model, seed). An update scheme or a reading goes with a device: constraint="
            "memristor constraint/update=tiki_taka constraint/read=analog."
        )
    constraint.attach(model, seed=seed)


def follow(constraint: DeviceConstraint | None, optimizer: Optimizer) -> None:
    """Name the optimizer to a constraint; one of the user's own need not ask for it.

    Raises
    ------
    UserError
        If the constraint works with no such optimizer.
    """
    if constraint is not None and hasattr(constraint, "follow"):
        constraint.follow(optimizer)


def _effect(entry: dict[str, Any], number: int) -> Any:
    """Build an effect; ``place`` in its entry replaces the one of its class."""
    key = f"constraint.effects[{number}]"
    effect = call_nested({name: entry[name] for name in entry if name != "place"}, key)
    if "place" in entry:
        try:
            effect.place = entry["place"]
        except (AttributeError, TypeError) as error:  # FrozenInstanceError is an AttributeError
            raise UserError(
                f"{key}.place={entry['place']}: {entry['_target_']} makes an object without room "
                f"for it ({error}); state place in its class."
            ) from error
    return effect

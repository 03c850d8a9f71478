"""What changes conductances in a step, and the effects that a user adds: their base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from mnist_exp.errors import UserError
from mnist_exp.models.plain_state import not_plain
from mnist_exp.schema.device_parts import PLACE
from mnist_exp.schema.rule import refusal

DEFAULT_PLACE = "after_retention"


class Effect(ABC):
    """A change to all conductances of a network in every training step; base of your own.

    Attributes
    ----------
    place : {"before_update", "after_update", "after_retention", "after_rounding"}
        Where in the step it acts. "before_update": on the values the optimizer asks for, before the
        devices respond. "after_update": on what the devices made of them, before retention.
        "after_retention": before clip and rounding. "after_rounding": last; only stuck devices
        are restored afterwards.
    generator : torch.Generator
        Random numbers for this effect alone, on the device of the conductances.
        `DeviceConstraint.attach` sets it, seeded by the run; checkpoints hold its state.

    Examples
    --------
    >>> class TemperatureDrift(Effect):
    ...     def __init__(self, rate: float) -> None:
    ...         self.rate = rate
    ...
    ...     def __call__(self, w, before):
    ...         w *= 1 + self.rate
    """

    place: str = DEFAULT_PLACE
    generator: Generator

    @abstractmethod
    def __call__(self, w: Tensor, before: Tensor) -> None:
        """Change the conductances in place.

        Parameters
        ----------
        w : Tensor
            All conductances of the network, float32 [devices].
        before : Tensor
            The same at the end of the last step; not to be changed.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step needs, as plain values and tensors; checkpoints hold it."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:  # noqa: B027, optional
        """Restore what `state_dict` returned; not called if that was empty."""


class StepEffect(Protocol):
    """A change to all conductances in a step."""

    @property
    def needs_before(self) -> bool:
        """Whether it needs the conductances of the last step."""

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Change ``w`` in place."""


class AddedEffect:
    """A user's effect under its name: its mistakes and errors say which one it is.

    Parameters
    ----------
    effect : callable
        An `Effect`, or any callable with its arguments.
    number : int
        Its index in ``constraint.effects``.
    """

    needs_before = True

    def __init__(self, effect: Any, number: int) -> None:
        self.effect = effect
        self.number = number
        self.name = f"constraint.effects[{number}] ({_path(effect)})"
        self.place = place_of(effect)

    def bind(self, seed: int, device: torch.device) -> None:
        """Give an `Effect` its generator, and check that checkpoints can hold its state."""
        if isinstance(self.effect, Effect):
            own = np.random.SeedSequence(seed, spawn_key=(self.number,))
            number = int(own.generate_state(1, np.uint64)[0])
            self.effect.generator = Generator(device).manual_seed(number)
        self.state_dict()

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Apply the effect.

        Raises
        ------
        UserError
            If it returns new conductances instead of changing them in place.
        RuntimeError
            With its name, if it raises an error.
        """
        try:
            returned = self.effect(w, before)
        except Exception as error:
            self._fail(error)
        if isinstance(returned, Tensor) and returned is not w:
            raise UserError(
                f"{self.name}: returns a tensor, which nothing reads. Change w in place, for "
                "instance w.mul_(2) or w.copy_(new), and return nothing."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the effect's state and that of its generator.

        Raises
        ------
        UserError
            If a checkpoint cannot hold the state.
        """
        generator = getattr(self.effect, "generator", None)
        return {
            "state": self._own_state(),
            "generator": generator.get_state() if isinstance(generator, Generator) else None,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a saved state."""
        if saved["generator"] is not None:
            self.effect.generator.set_state(saved["generator"].cpu())
        if saved["state"]:
            try:
                self.effect.load_state_dict(saved["state"])
            except Exception as error:
                self._fail(error)

    def _own_state(self) -> dict[str, Any]:
        if not hasattr(self.effect, "state_dict"):
            return {}
        try:
            state = self.effect.state_dict()
        except Exception as error:
            self._fail(error)
        for place, value in not_plain(state, "state_dict()"):
            raise UserError(
                f"{self.name}: {place} is of type {_path(value)}; a checkpoint holds numbers, "
                "text, tensors, and lists and dicts of them."
            )
        if not isinstance(state, dict):
            raise UserError(f"{self.name}: state_dict() must return a dict.")
        return state

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, UserError):
            raise UserError(f"{self.name}: {error}") from error
        raise RuntimeError(f"{self.name}: {type(error).__name__}: {error}") from error


def wrong_effects(effects: Sequence[Any]) -> Iterator[str]:
    """Yield a message for each effect that cannot be called, or whose place does not exist."""
    for number, effect in enumerate(effects):
        key = f"constraint.effects[{number}]"
        if not callable(effect) or isinstance(effect, type):
            yield (
                f"{key}: {_path(effect)} is not an effect; give an object that can be called with "
                "(w, before), such as one of a subclass of mnist_exp.device.Effect."
            )
        elif not PLACE.accepts(place := place_of(effect)):
            yield f"{refusal(f'{key}.place', place, PLACE)} ({_path(effect)})"


def place_of(effect: Any) -> str:
    """Return where in the step an effect acts, as its ``place`` or the default says."""
    place: str = getattr(effect, "place", DEFAULT_PLACE)
    return place


def _path(value: Any) -> str:
    """Return the dotted path of a class or function, or of the class of any other object."""
    named = getattr(value, "func", value)  # of a functools.partial
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}".removeprefix("builtins.")

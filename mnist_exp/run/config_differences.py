"""Compare resolved configurations; check which changes a resumed run may make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.schema import LENGTH_ARGUMENTS
from mnist_exp.wording import counted

EPOCHS = "training.epochs"
# Paths of what goes in, which may move; the checksum of what they lead to is compared instead.
NOT_HASHED = ("data.root", "data.file", "data.train_file", "data.test_file")
PLACES = (*NOT_HASHED, "model.weights")
SHOWN = 8  # most differences listed in a message


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both values; None for a missing key."""
    one, other = flat(before), flat(after)
    keys = sorted(one.keys() | other.keys())
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def check_extends(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str], run: str
) -> None:
    """Check that, among ``names``, only the number of epochs differs, and only upwards.

    Parameters
    ----------
    before, after : dict
        Two resolved configurations of the run called ``run``.
    names : iterable of str
        The dotted keys to check.

    Raises
    ------
    UserError
        Naming the keys that differ, or why the epochs cannot be extended.
    """
    found = {key: both for key, both in differences(before, after).items() if key not in PLACES}
    changed = {name: found[name] for name in sorted(names) if name in found}
    was, now = changed.get(EPOCHS, (0, 0))
    if isinstance(was, int) and was < now:
        del changed[EPOCHS]
        scheduler = after["scheduler"]
        derived = [key for key in LENGTH_ARGUMENTS if scheduler.get(key, "") is None]
        if derived:
            raise UserError(
                f"{EPOCHS}={now}: {run} cannot be extended from {counted(was, 'epoch')}, because "
                f"scheduler.{derived[0]} follows the number of epochs: those already trained had "
                f"the learning rates of a schedule that ends after {was}. Start a new run."
            )
    if changed:
        sentences = [f"{key} was {b} and is {a} now" for key, (b, a) in changed.items()]
        listed = "; ".join(sentences[:SHOWN]) + (
            f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
        )
        raise UserError(
            f"{run} was started with other settings: {listed}. Only {EPOCHS} may be raised "
            "when a run resumes; start a new run for anything else."
        )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to dotted keys."""
    by_key: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            by_key |= flat(value, f"{prefix}{key}.")
        else:
            by_key[f"{prefix}{key}"] = value
    return by_key

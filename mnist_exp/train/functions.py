"""Functions of logits and labels that a user may bring: losses and metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mnist_exp.errors import UserError

Result = TypeVar("Result")


class FunctionFailed(RuntimeError):
    """A loss or a metric raised an error that is not a `UserError`."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted path of a function, or of an object's class."""
    found: Any = function.func if isinstance(function, partial) else function
    found = found if hasattr(found, "__qualname__") else type(found)
    return f"{found.__module__}.{found.__qualname__}"


def call_named(key: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of the user's; its errors name it and its ``key``, such as ``metrics.mine``.

    Raises
    ------
    FunctionFailed
        If it raises anything but a `UserError`.
    """
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        raise FunctionFailed(
            f"{key} ({name_of(function)}) failed: {type(error).__name__}: {error}"
        ) from error

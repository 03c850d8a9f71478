"""Check for arguments of the wrong kind that Python would accept, such as true for 1."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from mnist_exp.schema.rule import shown

KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
# Other words an annotation may contain without making its kinds ambiguous.
AROUND = {
    *("None", "NoneType", "Optional", "Union", "typing", "collections", "abc", "class", "torch"),
    *("list", "List", "tuple", "Tuple", "Sequence", "Iterable", "Tensor"),
}


def wrong_kinds(target: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each truth value, number or text passed where another kind is expected.

    The expected kind comes from the parameter's annotation or else from its default, if that is a
    number or a truth value. Any other parameter takes anything. Lists are checked item by item.

    Parameters
    ----------
    target : callable
        A function or class.
    arguments : mapping
        Values by name; None always passes.
    """
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # a few built-in types have none
        return
    for name, value in arguments.items():
        allowed = _allowed(parameters[name]) if name in parameters else set()
        if allowed and not all(_fits(item, allowed) for item in _items(value)):
            named = allowed - {"int"} if "float" in allowed else allowed
            words = [words for kind, words in KINDS.items() if kind in named]
            yield f"{name}={shown(value)}: allowed is {' or '.join(words)}"


def _allowed(parameter: inspect.Parameter) -> set[str]:
    """Return the kinds a parameter takes; an empty set if unknown."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return {"bool": {"bool"}, "int": {"int", "float"}, "float": {"int", "float"}}.get(
            type(parameter.default).__name__, set()
        )
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    words = set(re.findall(r"\w+", text))
    kinds = words & KINDS.keys()
    return kinds if words - kinds <= AROUND else set()


def _fits(value: Any, allowed: set[str]) -> bool:
    if type(value).__name__ in ("bool", "bool_"):  # bool_: numpy's
        return "bool" in allowed
    if isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer()):
        return not allowed.isdisjoint({"int", "float"})
    if isinstance(value, Real):
        return "float" in allowed
    return not isinstance(value, str) or "str" in allowed


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _items(item)
    else:
        yield value

"""Rules for settings, as a test and in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.names import PLAIN_NAME, is_plain_name

LARGEST_INTEGER = 2**63 - 1  # of torch's int64


@dataclass(frozen=True)
class Rule:
    """Allowed values of a setting.

    Attributes
    ----------
    accepts : callable
        Returns whether a value of any type is allowed.
    allowed : str
        The same in words; completes "allowed is ...".
    """

    accepts: Callable[[Any], bool]
    allowed: str


def integer(least: int, most: int = LARGEST_INTEGER) -> Rule:
    """Whole numbers from ``least`` to ``most``; no truth values, no floats."""
    return Rule(
        lambda value: (
            isinstance(value, Integral)
            and not isinstance(value, bool)
            and least <= int(value) <= most
        ),
        f"a whole number of at least {least}"
        if most == LARGEST_INTEGER
        else f"a whole number from {least} to {most}",
    )


def number(test: Callable[[float], bool], allowed: str) -> Rule:
    """Finite numbers that pass ``test``; no truth values."""

    def accepts(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        try:
            return math.isfinite(value) and test(float(value))
        except OverflowError:  # an integer too large for a float
            return False

    return Rule(accepts, f"a number, {allowed}")


def one_of(*options: str) -> Rule:
    """One of the given words."""
    return Rule(lambda value: isinstance(value, str) and value in options, " or ".join(options))


def optional(rule: Rule) -> Rule:
    """Null or what ``rule`` accepts."""
    return Rule(lambda value: value is None or rule.accepts(value), f"null or {rule.allowed}")


def list_of(rule: Rule, allowed: str, length: int | None = None) -> Rule:
    """Lists whose items pass ``rule``, of any length or of exactly ``length``."""
    return Rule(
        lambda value: (
            isinstance(value, (list, tuple))
            and length in (None, len(value))
            and all(map(rule.accepts, value))
        ),
        allowed,
    )


# bool_: numpy's
BOOLEAN = Rule(lambda value: type(value).__name__ in ("bool", "bool_"), "true or false")
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a text that is not empty")
NAME = Rule(is_plain_name, PLAIN_NAME)
WHOLE = Rule(integer(-LARGEST_INTEGER).accepts, "a whole number")
FINITE = number(lambda value: True, "of any size")
ABOVE_0 = number(lambda value: value > 0, "above 0")
AT_LEAST_0 = number(lambda value: value >= 0, "at least 0")
SHARE = number(lambda value: 0 <= value <= 1, "from 0 to 1")
BELOW_1 = number(lambda value: 0 <= value < 1, "at least 0 and below 1")


def mistakes(rules: Mapping[str, Rule], values: Mapping[str, Any], group: str) -> list[str]:
    """Return a message for each of ``values`` that its rule rejects."""
    return [
        refusal(f"{group}.{name}", values[name], rule)
        for name, rule in rules.items()
        if name in values and not rule.accepts(values[name])
    ]


def refusal(key: str, value: Any, rule: Rule) -> str:
    """Return the message for a value that is not allowed."""
    return f"{key}={shown(value)}: allowed is {rule.allowed}"


def check_settings(rules: Mapping[str, Rule], values: Mapping[str, Any], group: str) -> None:
    """Check the arguments of a part of the configuration.

    Raises
    ------
    UserError
        Listing every mistake: the key, the value got and what is allowed.
    """
    refuse(mistakes(rules, values, group))


def refuse(lines: Iterable[str]) -> None:
    """Raise a UserError with these lines, if any."""
    if message := "\n".join(lines):
        raise UserError(message)


def shown(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if isinstance(value, str):
        return value
    return str(value).replace("True", "true").replace("False", "false").replace("None", "null")

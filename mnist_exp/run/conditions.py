"""Conditions that choose runs of a list: ``constraint=memristor``, ``accuracy>=98%``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.find_runs import FoundRun
from mnist_exp.run.run_columns import value_of
from mnist_exp.run.run_settings import as_text
from mnist_exp.run.text_table import shown_time

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPERATORS = ("=", "!=", *ORDER)
FORM = re.compile(r"\s*([^\s=!<>]+)\s*([=!<>]+)\s*(.*?)\s*")
SHARES = ("accuracy", "std", "validation")
DATE = "date"
# The beginning of a local time, as it is shown.
TIME = re.compile(r"\d{4}(-\d\d(-\d\d( \d\d(:\d\d(:\d\d)?)?)?)?)?")


@dataclass(frozen=True)
class Condition:
    """A column, an operator and the value to compare with, as typed.

    A date such as 2026-11 is that whole month.
    """

    column: str
    operator: str
    wanted: str

    def holds(self, run: FoundRun) -> bool:
        """Whether it is true of a run; one without such a value equals null alone."""
        value = value_of(run, self.column)
        if value is None:
            null = self.wanted == "null"
            return {"=": null, "!=": not null}.get(self.operator, False)
        if self.operator == "!=":
            return not self._equals(value, run)
        if self.operator == "=":
            return self._equals(value, run)
        one, other = number_of(value), number_of(self.wanted)
        if self.column == DATE:
            return ORDER[self.operator](shown_time(value)[: len(self.wanted)], self.wanted)
        return one is not None and other is not None and ORDER[self.operator](one, other)

    def _equals(self, value: Any, run: FoundRun) -> bool:
        if self.column == DATE:
            return shown_time(value).startswith(self.wanted)
        one, other = number_of(value), number_of(self.wanted)
        if one is not None and other is not None and not isinstance(value, bool):
            return one == other
        # asymmetric_sgd is an option, AsymmetricSGD its class
        ignored = str.maketrans("", "", " _" if self.column in run.settings.options else " ")
        names = (text.translate(ignored).casefold() for text in (as_text(value), self.wanted))
        return next(names) == next(names)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    UserError
        If it has no operator or an unknown one, or orders by a value that is no number or date.
    """
    found = FORM.fullmatch(text)
    if found is None or found[2] not in (*OPERATORS, "=="):
        raise UserError(
            f"--where {text}: allowed is COLUMN, one of {' '.join(OPERATORS)}, and a value, "
            "such as constraint=memristor; quote < and > for the shell."
        )
    column, sign, wanted = found[1], found[2].replace("==", "="), found[3]
    if column == DATE:
        wanted = wanted.replace("T", " ")
        if not TIME.fullmatch(wanted):
            raise UserError(
                f"--where {text}: {DATE} compares with a date or time, such as 2026-11-26 or "
                "'2026-11-26 18:30'."
            )
    elif sign in ORDER and number_of(wanted) is None:
        raise UserError(
            f"--where {text}: {sign} compares with a number, and {wanted!r} is not one."
        )
    if column in SHARES and (number_of(wanted) or 0.0) > 1.0:
        raise UserError(
            f"--where {text}: {column} is a share; write {wanted}% or a number up to 1."
        )
    return Condition(column, sign, wanted)


def number_of(value: Any) -> float | None:
    """Return a number, also one in per cent such as ``98%``; None for anything else."""
    scale = 1.0
    if isinstance(value, str) and value.endswith("%"):
        value, scale = value[:-1], 100.0
    try:
        return float(value) / scale
    except (TypeError, ValueError, OverflowError):
        return None

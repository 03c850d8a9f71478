"""``sweep.filter``: an expression over a job's settings, evaluated without Python's ``eval``.

A sweep resumed from a foreign directory brings its own, so nothing in it can call or import.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable
from typing import Any

from mnist_exp.errors import UserError

LONGEST = 1000  # characters; bounds the size of its numbers
CONSTANTS = {"true": True, "false": False, "null": None}  # as in YAML
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
# No powers: those of integers have no bounds.
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
ALLOWED = (
    "allowed are settings, numbers, 'texts', true, false, null, comparisons, in (...), and, or, "
    "not, and + - * / // %"
)


class JobFilter:
    """An expression that is true for the jobs to keep.

    Parameters
    ----------
    text : str
        Such as ``optimizer.lr_pos < optimizer.lr_neg and model in ('mlp', 'mlp100')``.

    Raises
    ------
    UserError
        If it cannot be read, or holds anything but what `ALLOWED` says.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise UserError(f"sweep.filter: has {len(text)} characters; allowed are {LONGEST}.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of 3and 4
                self._root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise self._error(f"cannot be read ({reason}); {ALLOWED}") from error
        try:
            self._check(self._root)
        except RecursionError as error:
            raise self._error("is nested too deeply") from error

    def keeps(self, value_of: Callable[[str], Any]) -> bool:
        """Return whether the expression is true for a job.

        Parameters
        ----------
        value_of : callable
            Returns the value of a setting of the job by its dotted key; may raise UserError.

        Raises
        ------
        UserError
            If the values cannot be compared or computed with, or the result is no truth value.
        """
        try:
            return self._truth(self._root, value_of)
        except RecursionError as error:
            raise self._error("is nested too deeply") from error

    def _error(self, reason: str) -> UserError:
        return UserError(f"sweep.filter={self.text}: {reason}.")

    def _check(self, node: ast.expr) -> None:
        """Refuse, in the whole expression, what `_value` does not know."""
        parts: list[ast.expr] = []
        known = True
        if isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.UnaryOp):
            known = isinstance(node.op, (ast.Not, *SIGNS))
            parts = [node.operand]
        elif isinstance(node, ast.BinOp):
            known = type(node.op) in ARITHMETIC
            parts = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            known = all(type(op) in COMPARISONS for op in node.ops)
            parts = [node.left, *node.comparators]
        elif isinstance(node, (ast.Tuple, ast.List)):
            parts = node.elts
        elif isinstance(node, ast.Constant):
            known = node.value is None or isinstance(node.value, (str, int, float))
        else:
            known = _dotted(node) is not None
        if not known:
            raise self._error(f"{ast.unparse(node)} is not allowed; {ALLOWED}")
        for part in parts:
            self._check(part)

    def _truth(self, node: ast.expr, value_of: Callable[[str], Any]) -> bool:
        value = self._value(node, value_of)
        if not isinstance(value, bool):
            raise self._error(f"{ast.unparse(node)} is {value!r}, neither true nor false")
        return value

    def _value(self, node: ast.expr, value_of: Callable[[str], Any]) -> Any:
        value: Any
        if isinstance(node, ast.Constant):
            value = node.value
        elif isinstance(node, (ast.Tuple, ast.List)):
            value = [self._value(item, value_of) for item in node.elts]
        elif isinstance(node, ast.BoolOp):
            join = all if isinstance(node.op, ast.And) else any
            value = join(self._truth(part, value_of) for part in node.values)
        elif isinstance(node, ast.Compare):
            value = self._compared(node, value_of)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            value = not self._truth(node.operand, value_of)
        elif isinstance(node, ast.UnaryOp):
            value = self._computed(node, SIGNS[type(node.op)], [node.operand], value_of)
        elif isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
            value = self._computed(node, ARITHMETIC[type(node.op)], parts, value_of)
        else:
            name = str(_dotted(node))
            value = CONSTANTS[name] if name in CONSTANTS else value_of(name)
        return value

    def _compared(self, node: ast.Compare, value_of: Callable[[str], Any]) -> bool:
        left = self._value(node.left, value_of)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self._value(part, value_of)
            try:
                holds = COMPARISONS[type(op)](left, right)
            except TypeError as error:
                raise self._error(f"{left!r} and {right!r} cannot be compared") from error
            if not holds:
                return False
            left = right
        return True

    def _computed(
        self,
        node: ast.expr,
        work: Callable[..., Any],
        parts: list[ast.expr],
        value_of: Callable[[str], Any],
    ) -> Any:
        values = [self._value(part, value_of) for part in parts]
        try:
            if not all(type(value) in (int, float) for value in values):
                raise TypeError("computes with numbers alone")
            return work(*values)
        except (TypeError, ArithmeticError) as error:
            listed = " and ".join(map(repr, values))
            raise self._error(f"{ast.unparse(node)}, of {listed}: {error}") from error


def _dotted(node: ast.expr) -> str | None:
    """Return a name with dots as text; None if the node is anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None

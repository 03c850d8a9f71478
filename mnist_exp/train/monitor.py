"""Monitored values: columns of the epochs' rows that decide about rates or the end of training."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.train.metrics import is_minimized
from mnist_exp.train.state import Row

ALWAYS = ("loss", "accuracy")  # of every evaluation
NO_METRICS: Mapping[str, Any] = {}


def column_of(name: str) -> str:
    """Return the column that a setting names: ``validation.loss`` is ``validation_loss``."""
    return re.sub(r"^(train|validation|test)\.", r"\1_", name)


def check_column(
    column: str,
    setting: str,
    validated: bool,
    metrics: Collection[str],
    parts: tuple[str, ...],
    complete: bool = True,
) -> None:
    """Check before training that a column may be monitored, and exists as far as is known.

    Parameters
    ----------
    column : str
        From `column_of`.
    setting : str
        What asks for it, such as ``scheduler.monitor=validation.f1.3``.
    validated : bool
        Whether there are validation images.
    metrics : collection of str
        What is measured on them besides loss and accuracy.
    parts : tuple of str
        Images whose values may decide: "train" and "validation".
    complete : bool
        Whether no callback adds further columns.

    Raises
    ------
    UserError
        If it may not be monitored, or does not exist.
    """
    part, _, value = column.partition("_")
    if part == "test":
        raise UserError(
            f"{setting}: what is measured on test images decides nothing about training; monitor "
            "validation_loss."
        )
    if part == "validation" and not validated:
        otherwise = ", or monitor train_loss" if "train" in parts else ""
        raise UserError(
            f"{setting}: there are no validation images; set cv=holdout, with cv.validation above "
            f"0{otherwise}."
        )
    known = [f"{name}_{always}" for name in parts for always in ALWAYS]
    known += [f"validation_{name}" for name in metrics]
    # a metric of several values has a column for each: NAME.KEY
    exists = column in known or (part == "validation" and value.partition(".")[0] in metrics)
    if part not in parts or (complete and not exists):
        raise UserError(f"{setting}: allowed is one of: {', '.join(known)}.")


def mode_of(column: str, metrics: Mapping[str, Any]) -> str:
    """Return "min" for a loss and for a metric that says ``minimize``, else "max"."""
    value = column.partition("_")[2]
    metric = metrics.get(value.partition(".")[0])
    falls = value == "loss" if metric is None else is_minimized(metric)
    return "min" if falls else "max"


def monitored(row: Row, column: str) -> float:
    """Return the value of a column in an epoch's row.

    Raises
    ------
    UserError
        If there is none, or it is not a finite number.
    """
    if column not in row:
        names = [name for name in row if name.startswith(("train_", "validation_"))]
        raise UserError(
            f"monitor={column}: epoch {row['epoch']} has no such value; it has {', '.join(names)}."
        )
    value = row[column]
    if not isinstance(value, float | int) or not math.isfinite(value):
        shown = "not finite" if value is None else value
        raise UserError(
            f"monitor={column}: is {shown} in epoch {row['epoch']}, neither better nor worse than "
            "a number; monitor another value."
        )
    return float(value)

"""Formats of a run's files, checked whenever one is read.

A shape is a `Rule` for a value, a dict of shapes for an object (a key ending in ``?`` is optional,
other keys are allowed), or a `ListOf` or `MapOf` shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mnist_exp.errors import UserError
from mnist_exp.schema import Rule, integer, one_of, optional
from mnist_exp.schema.rule import AT_LEAST_0, BOOLEAN, FINITE, SHARE, WHOLE, list_of


@dataclass(frozen=True)
class ListOf:
    """A list of items of one shape."""

    item: Shape


@dataclass(frozen=True)
class MapOf:
    """An object with arbitrary keys and values of one shape."""

    value: Shape


Shape: TypeAlias = "Rule | Mapping[str, Shape] | ListOf | MapOf"

ANY = Rule(lambda value: True, "anything")
STRING = Rule(lambda value: isinstance(value, str), "a text")
COUNT = integer(0)
IMAGE_SHAPE = list_of(integer(1), "channels, height and width", length=3)
STATUSES = ("running", "completed", "interrupted", "failed")
EPOCH_ROWS = ListOf({"epoch": integer(1), "validation_accuracy?": optional(SHARE)})
MATRIX = ListOf(ListOf(AT_LEAST_0))
CLASS_SHARES = ListOf(optional(SHARE))  # null: the class has no test image

FOLD: Shape = {
    "fold": integer(1),
    "accuracy": SHARE,
    "loss": FINITE,
    "selected_epoch": COUNT,
    "wall_seconds": AT_LEAST_0,
    "per_class_accuracy?": CLASS_SHARES,
    "confusion_matrix?": MATRIX,
    "epochs?": EPOCH_ROWS,
    "stopped?": STRING,
    "metrics?": MapOf(optional(FINITE)),  # null: not a finite number
    "cost?": MapOf(AT_LEAST_0),
}
STEP: Shape = {"step": integer(1), "epoch": integer(1)}  # row of steps.jsonl
REPRODUCTION: Shape = {
    "reference": STRING,
    "identical": BOOLEAN,
    "result": ListOf(STRING),
    "environment": ListOf(STRING),
}
# FACTS are written when a run starts, NUMBERS when it ends.
FACTS: dict[str, Shape] = {
    "model": STRING,
    "data": STRING,
    "class_names": ListOf(STRING),
    "seed": COUNT,
    "config_hash": STRING,
    "selection_rule": STRING,
    "precision": STRING,
    "device": STRING,
    "threads": integer(1),
}
NUMBERS: dict[str, Shape] = {
    "wall_seconds": AT_LEAST_0,
    "parameters": COUNT,
    "samples_per_second": AT_LEAST_0,
    "accuracy": {"mean": SHARE, "std": optional(AT_LEAST_0), "n": integer(1)},
    "loss": {"mean": FINITE, "std": optional(AT_LEAST_0), "n": integer(1)},
    "per_class_accuracy": CLASS_SHARES,
    "confusion_matrix": MATRIX,
    "folds": ListOf(FOLD),
}
RESULTS: dict[str, Shape] = {
    "status": one_of(*STATUSES),
    "error?": optional(STRING),
    "reproduction?": REPRODUCTION,
    "backpropagation?": STRING,
    "host?": STRING,
    "metrics?": MapOf(
        {"mean": optional(FINITE), "std": optional(AT_LEAST_0), "n": COUNT, "percent?": BOOLEAN}
    ),
    "cost?": MapOf({"mean": AT_LEAST_0, "std": optional(AT_LEAST_0), "n": integer(1)}),
    "image_shape?": IMAGE_SHAPE,
    "label_values?": ListOf(WHOLE),
    "weights_from?": {"path": STRING, "sha256": STRING},
    **{f"{key}?": shape for key, shape in (FACTS | NUMBERS).items()},
}


def check_complete(results: Mapping[str, Any], file: object) -> None:
    """Check that the results of a completed run are complete and consistent.

    Raises
    ------
    UserError
        Naming the entry that is missing or inconsistent.
    """
    check_format(results, FACTS | NUMBERS, file)
    counts = {len(results["folds"]), results["accuracy"]["n"], results["loss"]["n"]}
    if len(counts) != 1:
        raise UserError(f"{file}: is damaged: accuracy and loss are not over its folds.")
    classes, matrix = len(results["class_names"]), results["confusion_matrix"]
    if {len(results["per_class_accuracy"]), len(matrix), *map(len, matrix)} != {classes}:
        raise UserError(f"{file}: is damaged: its {classes} class_names do not fit its numbers.")


def check_format(value: Any, shape: Shape, file: object) -> None:
    """Check that ``value``, read from ``file``, has the given shape.

    Raises
    ------
    UserError
        Naming the file, the first wrong key, its value and what is allowed.
    """
    for mistake in mistakes(value, shape):
        raise UserError(f"{file}: is damaged: {mistake}.")


def mistakes(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """Yield a message for each part of ``value`` that does not match ``shape``."""
    if isinstance(shape, Rule):
        if not shape.accepts(value):
            yield f"{where or 'the content'} is {shown(value)}; allowed is {shape.allowed}"
    elif isinstance(shape, ListOf):
        if not isinstance(value, list | tuple):
            yield f"{where or 'the content'} is {shown(value)}; allowed is a list"
            return
        for number_, item in enumerate(value):
            yield from mistakes(item, shape.item, f"{where}[{number_}]")
    elif not isinstance(value, Mapping):
        yield f"{where or 'the content'} is {shown(value)}; allowed is an object with keys"
    elif isinstance(shape, MapOf):
        for key, item in value.items():
            yield from mistakes(item, shape.value, _inside(where, key))
    else:
        for key, item in shape.items():
            name = key.removesuffix("?")
            if name in value:
                yield from mistakes(value[name], item, _inside(where, name))
            elif name == key:
                yield f"{_inside(where, name)} is missing"


def shown(value: Any) -> str:
    """Format a value for a message; containers by type name only."""
    if isinstance(value, str | int | float | None):
        text = repr(value) if not isinstance(value, int) or abs(value) < 1e30 else "a huge number"
        return text if len(text) <= 60 else f"{text[:60]}..."
    return f"of type {type(value).__name__}"


def _inside(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)

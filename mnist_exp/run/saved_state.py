"""Format of a training checkpoint, checked before training resumes from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.models.plain_state import not_plain
from mnist_exp.run.formats import (
    AT_LEAST_0,
    COUNT,
    FINITE,
    STRING,
    ListOf,
    Shape,
    check_format,
    mistakes,
    shown,
)
from mnist_exp.schema import LENGTH_ARGUMENTS, Rule, integer, optional
from mnist_exp.train.state import STATEFUL, TrainState, state_of

# includes NaN and infinities: batches with such a loss may be skipped
FLOAT = Rule(lambda value: isinstance(value, float | int), "a number")
KEYS = Rule(lambda value: isinstance(value, Mapping), "an object with keys")
BYTES = Rule(
    lambda value: isinstance(value, Tensor) and value.dtype == torch.uint8, "a tensor of bytes"
)
INDICES = Rule(
    lambda value: isinstance(value, Tensor) and value.dtype == torch.int64 and value.ndim == 1,
    "a tensor of indices",
)
ROW: dict[str, Shape] = {
    "epoch": integer(1),
    "train_loss": FLOAT,
    "train_accuracy": FLOAT,
    "lr": FLOAT,
    "seconds": AT_LEAST_0,
    "samples_per_second": FLOAT,
    "level_histogram?": {"levels": ListOf(FLOAT), "counts": ListOf(COUNT)},
    "gradient_norms?": ListOf(FLOAT),
}
EFFECTS = ListOf({"state": KEYS, "generator": optional(BYTES)})  # of the user's
STATE: dict[str, Shape] = {
    "epoch": COUNT,
    "history": ListOf(ROW),
    "best": optional(KEYS),
    "wall_seconds": AT_LEAST_0,
    "order": optional(INDICES),
    "batch": COUNT,
    "samples": COUNT,
    "loss_sum": FINITE,
    "correct": COUNT,
    "skipped": COUNT,
    "lr?": FLOAT,  # absent in version 0.1
    "seconds": AT_LEAST_0,
    "gradient_norms": ListOf(FLOAT),
    "stopped?": optional(STRING),  # absent in version 0.1
    "generator": BYTES,
    "torch_random": BYTES,
    "device_random": optional(BYTES),
    **{name: optional(KEYS) for name in STATEFUL},
}
CHECKPOINT: dict[str, Shape] = {
    "config": KEYS,
    "data_sha256": STRING,
    "split_sha256?": optional(STRING),
    "weights_sha256?": STRING,
    "fold": optional(integer(1)),
    "step?": COUNT,  # absent in version 0.1
    "callbacks?": KEYS,
    "state": STATE,
}
# history columns present in all epochs or none
EVERY_EPOCH = ("train_", "validation_", "test_", "level_histogram", "gradient_norms")


def check_state(saved: Mapping[str, Any], state: TrainState, file: object) -> None:
    """Check that a freshly built ``state`` can resume from ``saved``, whose format is `STATE`.

    The model and the constraint check their own parts when they load them.

    Raises
    ------
    UserError
        Naming the file and what does not fit.
    """
    check_format(saved, STATE, file)
    for mistake in _misfits(saved, state):
        raise UserError(f"{file}: does not fit this training: {mistake}.")


def check_plain(value: Any, where: str) -> None:
    """Check that a checkpoint can hold ``value``: it is loaded without executing code.

    Raises
    ------
    UserError
        Naming the first part that is neither a plain value nor a tensor.
    """
    for place, found in not_plain(value, where):
        raise UserError(
            f"{place}: is a {type(found).__name__}; a checkpoint holds tensors, numbers, texts, "
            "lists and dicts. Convert it, for instance with torch.as_tensor."
        )


def _misfits(saved: Mapping[str, Any], state: TrainState) -> Iterator[str]:
    yield from _wrong_history(saved["history"], saved["epoch"])
    best, weights = saved["best"], state.evaluated_model.state_dict()
    if (best is None) != (saved["epoch"] == 0):
        yield "the weights to report are missing, or of no epoch"
    if best is not None:
        found = list(mistakes(best, {"epoch": integer(1), "model": KEYS}, "best"))
        yield from found or _differences(best["model"], weights, "best.model")
        if not found and best["epoch"] > saved["epoch"]:
            yield f"best.epoch is {best['epoch']} of {saved['epoch']}"
    for name in STATEFUL:
        if (saved[name] is None) != (getattr(state, name) is None):
            yield f"{name} is {shown(saved[name])}"
            return
    if state.scheduler is not None:
        fresh, restored = state_of(state.scheduler), saved["scheduler"]
        yield from _differences(restored, fresh, "scheduler")
        for key in LENGTH_ARGUMENTS:
            if restored.get(key) != fresh.get(key):
                yield f"scheduler.{key} is {shown(restored.get(key))}, not {fresh.get(key)}"
    if state.constraint is not None:
        built, found = state.constraint.state_dict(), saved["constraint"]
        counts = {key: built[key] for key in ("devices", "tally", "until_sample")}
        known = {key: found.get(key) for key in counts} if isinstance(found, Mapping) else found
        yield from _differences(known, counts, "constraint")
        yield from mistakes(found, {"effects?": EFFECTS}, "constraint")
    groups = state.optimizer.state_dict()["param_groups"]
    yield from _differences(saved["optimizer"].get("param_groups"), groups, "param_groups")
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    yield from _wrong_optimizer_state(saved["optimizer"].get("state"), parameters)


def _wrong_history(history: Sequence[Mapping[str, Any]], epoch: int) -> Iterator[str]:
    if [row["epoch"] for row in history] != list(range(1, epoch + 1)):
        yield f"the history is not of epochs 1 to {epoch}"
        return
    columns = [{key for key in row if str(key).startswith(EVERY_EPOCH)} for row in history]
    if any(names != columns[0] for names in columns):
        yield "the epochs of the history have different columns"
    for row in history:
        for key, value in row.items():
            if f"{key}?" not in ROW and not optional(FLOAT).accepts(value):
                yield f"{key} of epoch {row['epoch']} is {shown(value)}; allowed is a number"


def _wrong_optimizer_state(saved: Any, parameters: Sequence[Tensor]) -> Iterator[str]:
    """Yield a message for each entry that cannot be the optimizer's state of its parameters."""
    if not isinstance(saved, Mapping) or not all(isinstance(s, Mapping) for s in saved.values()):
        yield f"optimizer.state is {shown(saved)}; allowed are objects with keys"
        return
    if not set(saved) <= set(range(len(parameters))):
        yield f"optimizer.state is of {len(saved)} parameters, and there are {len(parameters)}"
        return
    together = torch.Size([sum(p.numel() for p in parameters)])  # of LBFGS's vectors
    for number, memory in saved.items():
        shape = parameters[number].shape
        for name, value in memory.items():
            where = f"optimizer.state.{number}.{name}"
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Tensor):
                    if not _fits(item.shape, shape) and item.shape != together:
                        yield f"{where} has shape {tuple(item.shape)}"
                elif not optional(FLOAT).accepts(item):
                    yield f"{where} is {shown(item)}"


def _fits(memory: torch.Size, parameter: torch.Size) -> bool:
    """Whether a tensor holds a number, or one a weight or a row of weights, as Adafactor's does."""
    same_dimensions = len(memory) in (0, len(parameter))
    return same_dimensions and all(
        size in (1, full) for size, full in zip(memory, parameter, strict=False)
    )


def _differences(saved: Any, fresh: Any, where: str) -> Iterator[str]:
    """Yield a message for each saved value whose type or size differs from the fresh one."""
    if isinstance(fresh, Tensor):
        if not isinstance(saved, Tensor) or saved.shape != fresh.shape:
            size = tuple(saved.shape) if isinstance(saved, Tensor) else shown(saved)
            yield f"{where} is {size}; allowed is a tensor {tuple(fresh.shape)}"
    elif isinstance(fresh, Mapping):
        if not isinstance(saved, Mapping) or set(saved) != set(fresh):
            yield f"{where} has not the keys it should have"
            return
        for key, value in fresh.items():
            yield from _differences(saved[key], value, f"{where}.{key}")
    elif isinstance(fresh, list | tuple):
        if not isinstance(saved, list | tuple) or (fresh and len(saved) != len(fresh)):
            yield f"{where} is {shown(saved)}; allowed is a list of {len(fresh)}"
            return
        for number, value in enumerate(fresh):
            yield from _differences(saved[number], value, f"{where}[{number}]")
    elif not _same_kind(saved, fresh):
        yield f"{where} is {shown(saved)}; it was built as {shown(fresh)}"


def _same_kind(saved: Any, fresh: Any) -> bool:
    if isinstance(fresh, str):  # a name, fixed by the configuration
        return bool(saved == fresh)
    if isinstance(fresh, bool):
        return isinstance(saved, bool)
    if isinstance(fresh, int | float):
        return isinstance(saved, int | float) and not isinstance(saved, bool)
    return True

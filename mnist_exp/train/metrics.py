"""Metrics: functions of the logits and labels of all images that are evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from numbers import Real
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.errors import UserError
from mnist_exp.train.functions import call_named, name_of

# From logits [N, C] in float32 and labels [N] in int64, on the CPU, to a number or several by name.
# An attribute `minimize` says that smaller values are better, `percent` that people read it in
# per cent.
Metric = Callable[[Tensor, Tensor], Any]
Function = TypeVar("Function", bound=Callable[..., Any])
TAKEN = ("loss", "accuracy")  # what every evaluation has


@runtime_checkable
class OfInputs(Protocol):
    """A metric that is given logits of its own making instead of the network's."""

    def logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Return logits [B, C] for a batch of network inputs, on the inputs' device."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Any:
        """Return the metric, as any `Metric` does."""


def smaller_is_better(metric: Function) -> Function:
    """Mark a metric whose smallest value is the best one."""
    metric.minimize = True  # type: ignore[attr-defined]
    return metric


def is_minimized(metric: Metric) -> bool:
    """Whether smaller values of a metric are better; by its attribute ``minimize``."""
    function = metric.func if isinstance(metric, partial) else metric
    return bool(getattr(function, "minimize", False))


def read_in_percent(metric: Function) -> Function:
    """Mark a metric that is a share of images, shown as accuracy is: 98.5%, not 0.985."""
    metric.percent = True  # type: ignore[attr-defined]
    return metric


def in_percent(metrics: Mapping[str, Metric]) -> set[str]:
    """Return the names of the metrics shown in per cent; by their attribute ``percent``."""
    return {
        name
        for name, metric in metrics.items()
        if getattr(metric.func if isinstance(metric, partial) else metric, "percent", False)
    }


@read_in_percent
def top_k_accuracy(logits: Tensor, labels: Tensor, *, k: int = 2) -> float:
    """Return the share of images whose label is among the ``k`` largest logits."""
    best = logits.topk(min(k, logits.shape[1])).indices  # (N, k)
    return float((best == labels.unsqueeze(1)).any(1).double().mean())


@smaller_is_better
def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return how far confidence is from accuracy: 0 if 80 % of the answers given at 80 % are right.

    The confidences fall into ``bins`` intervals of equal width, open below. Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    correct = (predicted == labels).double()
    number = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    # a bin's weight, its share of the images, cancels the division of its means
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, number, correct - confidence)
    return float(gaps.abs().sum() / len(labels))


@smaller_is_better
def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of -log p(label) in nats, in float64."""
    return float(F.cross_entropy(logits.double(), labels))


def f1(logits: Tensor, labels: Tensor, *, average: str | None = None) -> Any:
    """Return the harmonic mean of precision and recall of each class, by class index.

    Parameters
    ----------
    logits : Tensor
        float32 [N, C].
    labels : Tensor
        int64 [N].
    average : {"macro", "micro", "weighted"} or None
        How to average over classes; None: a value per class, NaN for one that neither occurs nor
        is predicted.
    """
    from sklearn.metrics import f1_score  # takes a second

    classes = range(logits.shape[1])
    found = f1_score(
        labels, logits.argmax(1), labels=list(classes), average=average, zero_division=math.nan
    )
    return {str(k): found[k] for k in classes} if average is None else found


class ShiftedAccuracy:
    """Accuracy of the mean prediction over each image and the same image moved a little.

    Moves by up to ``pixels`` along each axis count alike: 9 images for one pixel. What moves in
    repeats the edge. The mean is that of the logarithms of the probabilities.
    """

    percent = True

    def __init__(self, pixels: int = 1) -> None:
        self.pixels = pixels

    def logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Return the mean log probabilities [B, C] for ``inputs`` [B, channels, H, W]."""
        if inputs.ndim != 4:
            raise UserError(f"inputs of shape {list(inputs.shape)}: only images can be moved.")
        height, width = inputs.shape[2:]
        padded = F.pad(inputs, [self.pixels] * 4, mode="replicate")
        total = inputs.new_zeros(())
        moves = range(2 * self.pixels + 1)
        for top, left in product(moves, moves):
            moved = padded[..., top : top + height, left : left + width].contiguous()
            total = total + model(moved).float().log_softmax(1)
        return total / len(moves) ** 2

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        """Return the share of images whose label has the largest mean."""
        return float((logits.argmax(1) == labels).double().mean())


def measure(
    metrics: Mapping[str, Metric],
    logits: Tensor,
    labels: Tensor,
    own: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Any]:
    """Evaluate metrics on logits [N, C] and labels [N].

    ``own`` has the logits of the metrics that bring their own, by name.

    Returns
    -------
    dict
        Value by name, ``name.key`` where a metric returns several; None where it is not finite.

    Raises
    ------
    UserError
        If a metric returns neither a number nor a mapping of numbers.
    FunctionFailed
        If a metric raises anything but a `UserError`.
    """
    values: dict[str, float | None] = {}
    labels = labels.cpu()
    for name, metric in metrics.items():
        given = own.get(name, logits).float().cpu()
        with torch.no_grad():
            # copies, which a metric may change
            found = call_named(f"metrics.{name}", metric, given.clone(), labels.clone())
        if isinstance(found, Mapping):
            items = {f"{name}.{key}": value for key, value in found.items()}
        else:
            items = {name: found}
        for key, value in items.items():
            if key in values:
                raise UserError(f"metrics.{name}: {key} is the name of another metric's value too.")
            values[key] = _number(value, f"metrics.{key} ({name_of(metric)})")
    return values


def _number(value: Any, where: str) -> float | None:
    if getattr(value, "shape", None) == ():  # a tensor, or a number of numpy's
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        shape = getattr(value, "shape", None)
        kind = type(value).__name__ if shape is None else f"{type(value).__name__} {tuple(shape)}"
        raise UserError(
            f"{where}: returns a value of type {kind}; allowed is a number, or a dict of numbers "
            "by name."
        )
    return float(value) if math.isfinite(value) else None

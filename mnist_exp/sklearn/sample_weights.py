"""Weights of samples: from what `fit` is given to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.errors import UserError
from mnist_exp.schema.rule import AT_LEAST_0
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import TrainState

ClassWeight = Mapping[Any, float] | str | None


@dataclass(frozen=True)
class Samples:
    """Samples to train on.

    Attributes
    ----------
    X : ndarray
        float32 [N, d].
    labels : ndarray
        int64 [N], places in the list of classes.
    own : ndarray
        float64 [N], the weights given for the samples themselves, relative to the largest.
    weights : ndarray
        float64 [N], those times the weights of their classes.
    """

    X: np.ndarray
    labels: np.ndarray
    own: np.ndarray
    weights: np.ndarray

    @property
    def weighted(self) -> bool:
        """Whether some samples weigh more than others."""
        return bool((self.weights != self.weights[0]).any())


def weighted_samples(
    X: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight,
) -> Samples:
    """Return the samples whose weight is above 0; arguments as in `Samples` and `fit`.

    Raises
    ------
    ValueError
        If weights are of another number, negative, not finite, all 0 or of unknown classes.
    """
    own = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    own = own / (own.max() or 1)  # only ratios matter; keeps sums finite
    weights = own * _class_weights(class_weight, labels, classes, own)[labels]
    counted = weights > 0
    if not counted.any():
        raise UserError(
            "sample_weight, class_weight: all weights are zero; at least one must be above 0."
        )
    if counted.all():
        return Samples(X, labels, own, weights)
    return Samples(X[counted], labels[counted], own[counted], weights[counted])


def _class_weights(
    class_weight: ClassWeight, labels: np.ndarray, classes: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Return the weight of each class, float64 [C]."""
    weights: np.ndarray = np.ones(len(classes))
    if isinstance(class_weight, Mapping):
        if not all(AT_LEAST_0.accepts(weight) for weight in class_weight.values()):
            raise UserError(f"class_weight={class_weight}: allowed are numbers of at least 0.")
        weights = compute_class_weight(dict(class_weight), classes=classes, y=classes[labels])
    elif class_weight == "balanced":
        # not by compute_class_weight, which knows weights of samples only from version 1.7 on
        totals = np.bincount(labels, weights=own, minlength=len(classes))
        there = totals > 0
        weights[there] = totals.sum() / (there.sum() * totals[there])
    elif class_weight is not None:
        raise UserError(
            f"class_weight={class_weight!r}: allowed are a dict from label to weight, 'balanced' "
            "and None."
        )
    return weights


class WeightedCrossEntropy(Callback):
    """Cross-entropy as the weighted mean over a batch, ``sum(w_i loss_i) / sum(w_i)``.

    A loss for `mnist_exp.train.Recipe`, and the callback that looks up each batch's weights. It
    goes through autograd, as any loss but plain cross-entropy does.

    Parameters
    ----------
    weights : ndarray
        float64 [N], above 0; only their ratios matter.
    label_smoothing : float
        Share of the target spread over all classes.
    device : torch.device
        Compute device.
    """

    def __init__(self, weights: np.ndarray, label_smoothing: float, device: torch.device) -> None:
        ratios = torch.tensor(weights / weights.max()).float()
        # above 0 in float32, too, so that no batch's sum is 0
        self.weights = ratios.clamp_(min=torch.finfo(torch.float32).tiny).to(device)
        self.label_smoothing = label_smoothing

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        """Take the weights of the batch."""
        weights = self.weights[indices]
        self.shares = weights / weights.sum()  # (B,)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss [] of the batch's logits [B, C] and labels [B]."""
        losses = F.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )
        return losses @ self.shares

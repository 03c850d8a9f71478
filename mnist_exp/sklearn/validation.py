"""Early stopping: samples held back from training, their score, and the best epoch's weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.callbacks.early_stopping import EarlyStopping
from mnist_exp.data.batches import Features
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training

SCORE = "validation_accuracy"
RESTORED = ("model", "constraint", "optimizer")  # not the data order, which goes on


def held_network(model: nn.Module) -> nn.Module:
    """Return a copy with the weights that the devices hold; float64, on the CPU."""
    return effective_copy(model).cpu().double()


def hold_back(
    features: Features, weights: np.ndarray, parameters: Mapping[str, Any], seed: int
) -> tuple[np.ndarray, Validation]:
    """Return the places of the samples to train on, and a stratified share to stop by.

    Parameters
    ----------
    features : Features
        All samples.
    weights : ndarray
        float64 [N], what each sample counts in the score.
    parameters : mapping
        Of the classifier.
    seed : int
        Decides which samples are held back.

    Raises
    ------
    ValueError
        If classes have too few samples for a share of each.
    """
    trained, held = train_test_split(
        np.arange(len(weights)),
        test_size=parameters["validation_fraction"],
        stratify=features.labels.cpu().numpy(),
        random_state=seed,
    )
    validation = Validation(
        features.X[held],
        features.labels[held],
        weights[held],
        patience=parameters["n_iter_no_change"],
        min_delta=parameters["tol"],
    )
    return np.sort(trained), validation


class Validation(EarlyStopping):
    """Measures held-back samples at the end of each epoch and keeps the best epoch's weights.

    Ends the training when the score stops improving. When a training goes on, its weights so far
    are the first to beat.

    Parameters
    ----------
    X : Tensor
        float32 [N, d].
    labels : Tensor
        int64 [N].
    weights : ndarray
        float64 [N], what each sample counts.
    patience : int
        Epochs in a row without improvement.
    min_delta : float
        What an improvement must exceed.
    """

    def __init__(
        self, X: Tensor, labels: Tensor, weights: np.ndarray, *, patience: int, min_delta: float
    ) -> None:
        super().__init__(monitor=SCORE, patience=patience, min_delta=min_delta)
        self.X, self.labels = X.cpu().double(), labels.cpu()
        self.weights = weights
        self.highest = -1.0  # below any accuracy

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Row:
        """Return loss and accuracy, the latter as the classifier's ``score`` measures it."""
        logits = held_network(model)(self.X)
        losses = F.cross_entropy(logits, self.labels, reduction="none")
        right = logits.softmax(1).argmax(1) == self.labels
        return {
            "validation_loss": float(np.average(losses.numpy(), weights=self.weights)),
            SCORE: float(np.average(right.numpy(), weights=self.weights)),
        }

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Score the weights that a continued training starts from."""
        if state.epoch > 0:
            self._keep_if_best(state, self(state.model))
            self.best = self.highest
        super().on_train_start(state, training)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Keep the weights unless earlier ones had the same score or a higher one."""
        self._keep_if_best(state, row)
        super().on_epoch_end(state, row)

    def _keep_if_best(self, state: TrainState, row: Row) -> None:
        if row[SCORE] > self.highest:
            self.highest = row[SCORE]
            self.kept = deepcopy({name: getattr(state, name).state_dict() for name in RESTORED})

    def restore(self, state: TrainState) -> None:
        """Set the network and its devices back to where the score was highest."""
        for name, saved in self.kept.items():
            getattr(state, name).load_state_dict(saved)

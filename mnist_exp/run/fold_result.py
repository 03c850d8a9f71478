"""The result of training and testing on one split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnist_exp.run.training_cost import training_cost
from mnist_exp.train.evaluate import Evaluation
from mnist_exp.train.state import Row


@dataclass(frozen=True)
class FoldResult:
    """The result of training and testing on one split.

    Attributes
    ----------
    fold : int or None
        From 1; None when there is only one split.
    seed : int
        Seed of the fold's weights, data order, augmentation and dropout.
    epoch : int
        The epoch whose weights are reported.
    evaluation : Evaluation
        Evaluation of those weights on the split's test images.
    history : list of dict
        Metrics, one row per epoch.
    steps : list of dict
        Rows of steps.jsonl.
    stopped : str or None
        Why a callback ended the training before its last epoch.
    parameters : int
        Trainable parameters of the model.
    weights_sha256 : str
        Checksum of the reported weights and buffers.
    wall_seconds : float
        Time up to the last checkpoint, including that before interruptions.
    """

    fold: int | None
    seed: int
    epoch: int
    evaluation: Evaluation
    history: list[Row]
    steps: list[Row]
    stopped: str | None
    parameters: int
    weights_sha256: str
    wall_seconds: float

    def row(self) -> dict[str, Any]:
        """Return the fold's row of results.json."""
        cost = training_cost(self.history)
        return {
            "fold": self.fold or 1,
            "seed": self.seed,
            "selected_epoch": self.epoch,
            "accuracy": self.evaluation.accuracy,
            "loss": self.evaluation.loss,
            **({"metrics": self.evaluation.metrics} if self.evaluation.metrics else {}),
            **({"cost": cost} if cost else {}),
            "per_class_accuracy": self.evaluation.per_class_accuracy,
            "confusion_matrix": self.evaluation.confusion_matrix.tolist(),
            "weights_sha256": self.weights_sha256,
            "wall_seconds": self.wall_seconds,
            "epochs": self.history,
            **({} if self.stopped is None else {"stopped": self.stopped}),
        }

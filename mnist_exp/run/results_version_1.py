"""Convert results.json from version 1, whose layout for one split differed from that for folds."""

from __future__ import annotations

from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.formats import AT_LEAST_0, COUNT, EPOCH_ROWS, FINITE, RESULTS, SHARE, Shape
from mnist_exp.run.over_folds import class_accuracies, mean_and_std
from mnist_exp.schema import optional

# top-level name for a single split: name in a row of folds
ONE_SPLIT = {
    "selected_epoch": "selected_epoch",
    "test_accuracy": "accuracy",
    "test_loss": "loss",
    "weights_sha256": "weights_sha256",
    "epochs": "epochs",
}
SHARED = ("seed", "wall_seconds", "per_class_accuracy", "confusion_matrix")  # same name in both
RESULTS_1: dict[str, Shape] = {
    **{key: shape for key, shape in RESULTS.items() if key not in ("accuracy?", "loss?")},
    "selected_epoch?": COUNT,
    "test_accuracy?": optional(SHARE),
    "test_loss?": FINITE,
    "epochs?": EPOCH_ROWS,
    "mean_accuracy?": optional(SHARE),
    "std_accuracy?": optional(AT_LEAST_0),
}


def to_version_2(results: dict[str, Any], file: object) -> dict[str, Any]:
    """Convert results of version 1, valid by `RESULTS_1`, to version 2.

    Raises
    ------
    UserError
        If their numbers overflow when summed.
    """
    moved = {*ONE_SPLIT, "mean_accuracy", "std_accuracy", "accuracy", "loss"}
    new = {key: value for key, value in results.items() if key not in moved}
    mean = results.get("mean_accuracy", results.get("test_accuracy"))
    complete = {"selected_epoch", "test_loss", "wall_seconds"} <= results.keys()
    if "folds" not in new and complete and results.get("test_accuracy") is not None:
        row = {name: results[key] for key, name in ONE_SPLIT.items() if key in results}
        row |= {key: results[key] for key in SHARED if key in results}
        new["folds"] = [{"fold": 1, **row}]
    folds = new.get("folds", [])
    matrix = new.get("confusion_matrix", [])
    try:
        if mean is not None:
            std = results.get("std_accuracy")
            new["accuracy"] = {"mean": mean, "std": std, "n": max(len(folds), 1)}
        if folds:
            new["loss"] = mean_and_std([fold["loss"] for fold in folds])
        if matrix and all(len(row) == len(matrix) for row in matrix):
            new.setdefault("per_class_accuracy", class_accuracies(matrix))
    except OverflowError as error:
        raise UserError(f"{file}: is damaged: its numbers are too large.") from error
    return new

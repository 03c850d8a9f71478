"""Which classes a run mistakes for which, and the images it is wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.report.images import Sprite
from mnist_exp.run.predictions import Predictions

Array = npt.NDArray[Any]
OF_A_CELL = 20  # misclassified images kept of a cell
OF_THE_DIAGONAL = 8  # correct ones, the least certain
MOST_CLASSES = 60  # of a matrix that fits on a page
MOST_COUNTS = 50_000  # in the matrices of single folds
MOST_IMAGES = 6000  # named in the page, over all cells


def matrices(results: dict[str, Any]) -> dict[str, Any]:
    """Return the counts over all folds, and of each fold, [K][K]: rows true, columns predicted.

    Those of single folds are left out if they are more than `MOST_COUNTS` numbers in all.
    """
    of_folds = {
        row["fold"]: row["confusion_matrix"]
        for row in results["folds"] if "confusion_matrix" in row
    }  # fmt: skip
    if not of_folds:  # a run of an earlier version
        return {
            "all": [[round(n) for n in row] for row in results["confusion_matrix"]],
            "folds": {},
        }
    total = np.asarray([*of_folds.values()]).sum(0).astype(np.int64)
    shown = len(of_folds) > 1 and len(of_folds) * total.size <= MOST_COUNTS
    return {"all": total.tolist(), "folds": of_folds if shown else {}}


def class_rows(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a class: ``support``, ``precision``, ``recall``, ``f1`` and ``mistaken_for``.

    Definitions as in scikit-learn's classification_report; None where a share is of nothing.
    ``accuracy`` is of the class against all others: (true positives + true negatives) / all.
    """
    counts = np.asarray(matrix, np.float64)
    right, true, predicted, images = counts.diagonal(), counts.sum(1), counts.sum(0), counts.sum()
    rows = []
    for k, name in enumerate(names):
        precision, recall = _share(right[k], predicted[k]), _share(right[k], true[k])
        wrong = counts[k].copy()
        wrong[k] = 0
        rows.append(
            {
                "name": name,
                "support": int(true[k]),
                "accuracy": _share(images - true[k] - predicted[k] + 2 * right[k], images),
                "precision": precision,
                "recall": recall,
                "f1": _share(2 * right[k], true[k] + predicted[k]),
                "mistaken_for": names[int(wrong.argmax())] if wrong.any() else "",
                "mistaken": int(wrong.max()),
            }
        )
    return rows


def shown_images(predictions: Predictions, sprite: Sprite) -> dict[str, list[Any]]:
    """Return columns about the images that cells of the matrix show, the most telling first.

    Returns
    -------
    dict of list
        ``fold``, ``row`` (of the data set), ``true``, ``predicted``, ``p`` (probability of the
        predicted class), ``p_true`` and ``tile`` (-1 without images). Of every cell at most
        `OF_A_CELL`, taken in turn from the folds, the most confident mistakes first.
    """
    chosen = chosen_rows(predictions)
    true, predicted = predictions.label[chosen], predictions.predicted[chosen]
    shares = predictions.probabilities[chosen]
    each = np.arange(len(chosen))
    return {
        "fold": predictions.fold[chosen].tolist(),
        "row": predictions.index[chosen].tolist(),
        "true": true.tolist(),
        "predicted": predicted.tolist(),
        "p": np.round(shares[each, predicted].astype(float), 4).tolist(),
        "p_true": np.round(shares[each, true].astype(float), 4).tolist(),
        "tile": [sprite.row(row) for row in predictions.index[chosen].tolist()],
    }


def chosen_rows(predictions: Predictions) -> Array:
    """Return the rows of `shown_images`, int [M]: the first of every cell, then the second, ..."""
    predicted, confidence = predictions.predicted, predictions.confidence
    wrong = predicted != predictions.label
    telling = np.where(wrong, -confidence, confidence)  # certain mistakes, uncertain right ones
    classes = predictions.probabilities.shape[1]
    cell = predictions.label.astype(np.int64) * classes + predicted
    in_fold = _rank_within(cell * (int(predictions.fold.max()) + 1) + predictions.fold, telling)
    turn = _rank_within(cell, in_fold + 0.5 * (telling - telling.min() + 1e-9) / 2.0)
    kept = np.flatnonzero(turn < np.where(wrong, OF_A_CELL, OF_THE_DIAGONAL))
    order = np.lexsort((telling[kept], turn[kept], ~wrong[kept]))
    return kept[order][:MOST_IMAGES]


def sample_rows(predictions: Predictions, number: int) -> Array:
    """Return rows of the first fold to show, int: half of them wrong if there are as many."""
    own = np.flatnonzero(predictions.fold == predictions.fold.min())
    is_wrong = predictions.predicted[own] != predictions.label[own]
    wrong, right = own[is_wrong], own[~is_wrong]
    some_wrong = wrong[: max(number // 2, number - len(right))]
    return np.concatenate([right[: number - len(some_wrong)], some_wrong])


def confident_mistakes(predictions: Predictions, number: int) -> Array:
    """Return the rows of the mistakes with the highest probability, int."""
    wrong = np.flatnonzero(predictions.predicted != predictions.label)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")[:number]]


def described(predictions: Predictions, rows: Array, sprite: Sprite) -> list[dict[str, Any]]:
    """Return what a page says of images: row of the data set, classes, probability and tile."""
    predicted, confidence = predictions.predicted, predictions.confidence
    return [
        {
            "row": int(predictions.index[i]),
            "true": int(predictions.label[i]),
            "predicted": int(predicted[i]),
            "p": round(float(confidence[i]), 4),
            "tile": sprite.row(int(predictions.index[i])),
        }
        for i in rows
    ]


def _rank_within(group: Array, key: Array) -> Array:
    """Return each element's place, from 0, in its group by ascending key."""
    order = np.lexsort((key, group))
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(starts, sizes)
    return ranks


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None

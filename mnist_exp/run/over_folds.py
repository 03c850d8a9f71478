"""Numbers over the folds of a run: mean and spread, accuracy of each class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def mean_and_std(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None of one value) and number of some values."""
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def class_accuracies(matrix: Sequence[Sequence[float]]) -> list[float | None]:
    """Return the share of right predictions of each class; None for one without an image.

    Parameters
    ----------
    matrix : list of list of float
        Confusion matrix [K, K], rows are true classes.
    """
    totals = map(sum, matrix)
    return [row[k] / total if total else None
            for k, (row, total) in enumerate(zip(matrix, totals, strict=True))]  # fmt: skip

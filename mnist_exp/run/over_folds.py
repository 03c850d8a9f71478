"""Statistics over the folds of a run: mean, standard deviation, per-class accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mnist_exp.run.formats import FINITE


def mean_and_std(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean, sample standard deviation (None for one value) and count of ``values``."""
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def metrics_over_folds(
    folds: Sequence[Mapping[str, float | None]], percent: Collection[str] = ()
) -> dict[str, Any]:
    """Return `mean_and_std` of each metric over the folds that have a value; None if none has.

    Those named in ``percent`` are marked as read in per cent.
    """
    found = {}
    for name in dict.fromkeys(name for fold in folds for name in fold):
        values = [value for fold in folds if (value := fold.get(name)) is not None]
        found[name] = mean_and_std(values) if values else {"mean": None, "std": None, "n": 0}
        if name.partition(".")[0] in percent:
            found[name]["percent"] = True
    return found


def of_reported_epochs(results: Mapping[str, Any], column: str) -> float | None:
    """Return a column of the reported epochs, mean over folds; None if any has no number there."""
    found = [
        epoch.get(column)
        for fold in results.get("folds", ())
        for epoch in fold.get("epochs", ())
        if epoch["epoch"] == fold["selected_epoch"]
    ]
    return statistics.mean(found) if found and all(map(FINITE.accepts, found)) else None


def class_accuracies(matrix: Sequence[Sequence[float]]) -> list[float | None]:
    """Return the share of correct predictions per class; None for a class without images.

    Parameters
    ----------
    matrix : list of list of float
        Confusion matrix [K, K], rows are true classes.
    """
    totals = map(sum, matrix)
    return [row[k] / total if total else None
            for k, (row, total) in enumerate(zip(matrix, totals, strict=True))]  # fmt: skip

"""The number that a search compares jobs by, and that ranks the jobs of a sweep.

Never one of the test set: the value of the reported epoch on the validation images. With k-fold,
which has none, the mean over the held-out folds takes its place. That mean is optimistic for the
setting it chose, since no other images are left to test it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_exp.run.formats import FINITE
from mnist_exp.run.overview import of_reported_epochs

VALIDATION = "validation_"
DEFAULT = "validation_accuracy"


def objective_column(sweep: Mapping[str, Any]) -> str:
    """Return the column that ``sweep.objective`` names: ``validation.f1`` is ``validation_f1``.

    Parameters
    ----------
    sweep : mapping
        The configuration's ``sweep``; of older versions, it has no objective.
    """
    name = str(sweep.get("objective", DEFAULT))
    return VALIDATION + name[len(VALIDATION) :]


def objective(results: Mapping[str, Any], column: str) -> float | None:
    """Return the objective of a completed run; None if it has no such number.

    Parameters
    ----------
    results : mapping
        Content of results.json.
    column : str
        From `objective_column`.
    """
    value: Any = of_reported_epochs(results, column)
    if value is None and len(results["folds"]) > 1:
        name = column.removeprefix(VALIDATION)
        values = {key: results[key] for key in ("accuracy", "loss")} | results.get("metrics", {})
        value = values.get(name, {}).get("mean")
    return float(value) if FINITE.accepts(value) else None

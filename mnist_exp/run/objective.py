"""The number that a search compares jobs by, and that ranks the jobs of a sweep.

Never one of the test set: the value of the reported epoch on the validation images. With k-fold,
which has none, the mean over the held-out folds takes its place. That mean is optimistic for the
setting it chose, since no other images are left to test it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnist_exp.run.formats import FINITE
from mnist_exp.run.over_folds import of_reported_epochs
from mnist_exp.run.text_table import Share

VALIDATION = "validation_"
DEFAULT = "validation_accuracy"
MAXIMIZE, MINIMIZE = "maximize", "minimize"


@dataclass(frozen=True)
class Objective:
    """What ``sweep.objective`` and ``sweep.direction`` say.

    Attributes
    ----------
    column : str
        Of a row of metrics.jsonl, such as ``validation_f1``.
    direction : str
        "maximize" or "minimize".
    """

    column: str = DEFAULT
    direction: str = MAXIMIZE


@dataclass(frozen=True)
class Ranking:
    """What orders jobs.

    Attributes
    ----------
    value : str
        What was measured: ``accuracy``, ``loss`` or a metric.
    held_out : bool
        Whether on held-out folds, which makes the best one's value optimistic; else on validation
        images.
    direction : str
        "maximize" or "minimize".
    """

    value: str
    held_out: bool
    direction: str

    def __str__(self) -> str:
        return f"{'held-out' if self.held_out else 'validation'} {self.value}"

    @property
    def column(self) -> str:
        """Column of the table of jobs; held-out folds are the test images of k-fold."""
        if self.held_out:
            return "accuracy" if self.value == "accuracy" else f"test_{self.value}"
        return VALIDATION + self.value

    def place(self, value: float | None) -> float:
        """Return the key to sort by: the best first, what lacks a value last."""
        if value is None:
            return float("inf")
        return value if self.direction == MINIMIZE else -value


class Score(NamedTuple):
    """The objective of a job, and what it measures."""

    value: float
    ranking: Ranking


def objective_column(sweep: Mapping[str, Any]) -> str:
    """Return the column that ``sweep.objective`` names: ``validation.f1`` is ``validation_f1``.

    Parameters
    ----------
    sweep : mapping
        The configuration's ``sweep``; of older versions, it has no objective.
    """
    name = str(sweep.get("objective", DEFAULT))
    return VALIDATION + name[len(VALIDATION) :]


def score(results: Mapping[str, Any], objective: Objective) -> Score | None:
    """Return the objective of a run; None if it has no such number.

    Parameters
    ----------
    results : mapping
        Content of results.json.
    objective : Objective
        What it is.
    """
    name = objective.column.removeprefix(VALIDATION)
    value: Any = of_reported_epochs(results, objective.column)
    held_out = value is None
    over_folds = {key: results.get(key, {}) for key in ("accuracy", "loss")}
    over_folds |= results.get("metrics", {})
    if held_out and over_folds["accuracy"].get("n", 1) > 1:
        value = over_folds.get(name, {}).get("mean")
    if not FINITE.accepts(value):
        return None
    in_percent = name == "accuracy" or over_folds.get(name, {}).get("percent")
    kind = Share if in_percent else float
    return Score(kind(value), Ranking(name, held_out, objective.direction))

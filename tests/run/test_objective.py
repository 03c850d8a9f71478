"""The objective of a job: validation images, with k-fold the held-out ones, never the test set."""

from __future__ import annotations

from typing import Any

import pytest

from mnist_exp.run.objective import Objective, Ranking, objective_column, score
from mnist_exp.schema import RULES


def run_of(*folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return results of a run whose folds have these rows, and report the second epoch."""
    rows = [[{"epoch": n, **row} for n, row in enumerate(fold, start=1)] for fold in folds]
    return {
        "accuracy": {"mean": 0.25, "std": None, "n": len(folds)},
        "loss": {"mean": 3.0, "std": None, "n": len(folds)},
        "metrics": {"f1": {"mean": 0.2, "std": None, "n": len(folds)}},
        "folds": [{"selected_epoch": 2, "epochs": fold} for fold in rows],
    }


def objective(results: dict[str, Any], column: str) -> float | None:
    found = score(results, Objective(column))
    return None if found is None else found.value


def test_the_objective_is_the_validation_value_of_the_reported_epoch() -> None:
    results = run_of(
        [
            {"validation_accuracy": 0.9, "validation_loss": 1.0},
            {"validation_accuracy": 0.5, "validation_loss": 2.0},
        ]
    )
    assert objective(results, "validation_accuracy") == 0.5
    assert objective(results, "validation_loss") == 2.0


def test_with_k_fold_it_is_the_mean_over_the_held_out_folds() -> None:
    results = run_of([{}, {}], [{}, {}])
    assert objective(results, "validation_accuracy") == 0.25
    assert objective(results, "validation_loss") == 3.0
    assert objective(results, "validation_f1") == 0.2
    assert objective(results, "validation_recall") is None


@pytest.mark.parametrize(
    ("folds", "column", "name", "in_table"),
    [
        (1, "validation_accuracy", "validation accuracy", "validation_accuracy"),
        (1, "validation_loss", "validation loss", "validation_loss"),
        (2, "validation_accuracy", "held-out accuracy", "accuracy"),
        (2, "validation_f1", "held-out f1", "test_f1"),
    ],
)
def test_what_ranks_jobs_is_named_after_its_images(
    folds: int, column: str, name: str, in_table: str
) -> None:
    row = {"validation_accuracy": 0.9, "validation_loss": 1.0} if folds == 1 else {}
    found = score(run_of(*[[row, row]] * folds), Objective(column))
    assert found is not None
    assert (str(found.ranking), found.ranking.column) == (name, in_table)


def test_the_best_comes_first_and_what_has_no_number_last() -> None:
    values = [0.5, None, 0.9, 0.1]
    highest = Ranking("accuracy", held_out=False, direction="maximize")
    lowest = Ranking("loss", held_out=False, direction="minimize")
    assert sorted(values, key=highest.place) == [0.9, 0.5, 0.1, None]
    assert sorted(values, key=lowest.place) == [0.1, 0.5, 0.9, None]


def test_a_single_split_without_validation_images_has_none() -> None:
    assert objective(run_of([{}, {"test_accuracy": 0.9}]), "validation_accuracy") is None


def test_a_value_that_is_no_number_is_none() -> None:
    assert objective(run_of([{}, {"validation_f1": None}]), "validation_f1") is None


def test_both_ways_to_write_a_column_name_the_same() -> None:
    for name in ("validation.f1.3", "validation_f1.3"):
        assert objective_column({"objective": name}) == "validation_f1.3"
    assert objective_column({}) == "validation_accuracy"  # a configuration of an older version


@pytest.mark.parametrize("name", ["test_accuracy", "train_loss", "accuracy", "validation_", None])
def test_what_other_images_measure_is_no_objective(name: str | None) -> None:
    assert not RULES["sweep.objective"].accepts(name)

"""Per-class numbers and the choice of images for the cells of the confusion matrix."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from mnist_exp.report.confusion import (
    OF_A_CELL,
    OF_THE_DIAGONAL,
    chosen_rows,
    class_rows,
    confident_mistakes,
    matrices,
    sample_rows,
)
from mnist_exp.run.predictions import Predictions

NAMES = ("a", "b", "c", "never")


def predictions(images: int = 3000, folds: int = 3) -> Predictions:
    random = np.random.default_rng(1)
    label = random.integers(0, 3, images).astype(np.int16)
    logits = random.normal(size=(images, 4))
    logits[np.arange(images), label] += 1.5
    logits[:, 3] = -30
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    fold = (np.arange(images) * folds // images + 1).astype(np.int16)
    return Predictions(fold, np.arange(images), label, shares.astype(np.float32))


def test_class_rows_are_those_of_scikit_learn() -> None:
    found = predictions()
    matrix = confusion_matrix(found.label, found.predicted, labels=range(4)).tolist()
    report = classification_report(
        found.label, found.predicted, labels=range(4), output_dict=True, zero_division=np.nan
    )
    rows = class_rows(matrix, NAMES)
    for k, row in enumerate(rows[:3]):
        expected = report[str(k)]
        assert [row["precision"], row["recall"], row["f1"]] == [
            expected[key] for key in ("precision", "recall", "f1-score")
        ]
        assert row["support"] == expected["support"]
        assert np.isclose(row["accuracy"], np.mean((found.label == k) == (found.predicted == k)))
    assert rows[3]["recall"] is rows[3]["precision"] is None  # neither there nor predicted
    assert rows[3]["mistaken_for"] == ""


def test_every_cell_gets_its_most_telling_images_from_all_folds() -> None:
    found = predictions()
    chosen = chosen_rows(found)
    predicted, wrong = found.predicted, found.predicted != found.label
    for true in range(3):
        for guess in range(3):
            cell = np.flatnonzero((found.label == true) & (predicted == guess))
            kept = chosen[(found.label[chosen] == true) & (predicted[chosen] == guess)]
            most = OF_THE_DIAGONAL if true == guess else OF_A_CELL
            assert len(kept) == min(len(cell), most)
            counts = Counter(found.fold[kept].tolist())
            assert max(counts.values()) - min(counts.values()) <= 1
            for fold in counts:
                own = cell[found.fold[cell] == fold]
                order = own[np.argsort(found.confidence[own] * (1 if true == guess else -1))]
                assert {*kept[found.fold[kept] == fold]} == {*order[: counts[fold]]}
    assert wrong[chosen][: wrong[chosen].sum()].all()  # mistakes come first


def test_sample_is_half_wrong_and_mistakes_are_the_most_confident() -> None:
    found = predictions()
    rows = sample_rows(found, 24)
    assert len({*rows}) == 24
    assert (found.fold[rows] == 1).all()
    assert (found.predicted[rows] != found.label[rows]).sum() == 12
    wrong = np.flatnonzero(found.predicted != found.label)
    worst = confident_mistakes(found, 10)
    assert found.confidence[worst].tolist() == sorted(found.confidence[wrong])[::-1][:10]


@pytest.mark.parametrize(("folds", "kept"), [(1, 0), (5, 5), (6, 0)])
def test_matrices_of_single_folds_are_left_out_where_they_would_fill_the_page(
    folds: int, kept: int
) -> None:
    one = np.eye(100, dtype=int).tolist()
    rows = [{"fold": fold + 1, "confusion_matrix": one} for fold in range(folds)]
    found = matrices({"folds": rows})
    assert len(found["folds"]) == kept
    assert found["all"][3][3] == folds

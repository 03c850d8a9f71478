"""The summary of a run names mistakes by their direction, counted over all folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnist_exp.run.report import summary_lines

RESULTS: dict[str, Any] = {
    "model": "mlp", "parameters": 10, "data": "Shoes", "class_names": ["boot", "clog"],
    "selection_rule": "last epoch", "per_class_accuracy": [0.5, 1.0], "wall_seconds": 1.0,
    "samples_per_second": 1.0, "precision": "fp32", "device": "cpu", "threads": 1, "seed": 0,
    "accuracy": {"mean": 0.75, "std": 0.0},
}  # fmt: skip


def fold(number: int) -> dict[str, Any]:
    return {"fold": number, "accuracy": 0.75, "loss": 1.0, "selected_epoch": 1, "wall_seconds": 1.0,
            "epochs": [{}], "stopped": "enough"}  # fmt: skip


@pytest.mark.parametrize(
    ("folds", "matrix", "line"),
    [
        (1, [[4, 1], [0, 5]], "most confused: boot predicted as clog, 1 time"),
        (
            3,  # the mean over folds, as results.json has it
            [[4, 1204 / 3], [2 / 3, 5]],
            "most confused (in all 3 folds): boot predicted as clog, 1,204 times; "
            "clog predicted as boot, 2 times",
        ),
        (2, [[4, 0], [0, 5]], "no test image is misclassified"),
    ],
)
def test_mistakes(folds: int, matrix: list[list[float]], line: str) -> None:
    found = {**RESULTS, "folds": [fold(n + 1) for n in range(folds)], "confusion_matrix": matrix}
    lines = summary_lines(found, Path("run"))
    assert line in lines
    assert any(text.endswith("stopped after 1 epoch: enough") for text in lines)
    assert any(", 1 thread, seed 0" in text for text in lines)

"""Training curves: a panel for each metric measured every epoch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mnist_exp.plots.run import curves_figure
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.train import Evaluation


def fold(
    metrics: dict[str, float | None], parts: tuple[str, ...], scale: float = 1.0
) -> FoldResult:
    history: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        row: dict[str, Any] = {"epoch": epoch, "step": 10 * epoch, "lr": 0.1}
        for part in ("train", *parts):
            row |= {f"{part}_loss": 1 / epoch, f"{part}_accuracy": epoch / 4}
        for part in parts:
            for name, value in metrics.items():
                row[f"{part}_{name}"] = value and scale * value * epoch
        history.append(row)
    evaluation = Evaluation(0.5, 0.5, torch.eye(2).long(), torch.zeros(2).long(), metrics)
    return FoldResult(None, 0, 3, evaluation, history, [], None, 10, "", 1.0)


def numbers(line: Any) -> list[float]:
    return list(line.get_ydata())


METRICS: dict[str, float | None] = {
    "top2": 0.5,
    "f1.0": 0.1,
    "f1.1": None,
    "f1.2": 0.3,
    "ece": None,
}


@pytest.mark.parametrize(
    ("metrics", "parts", "panels"),
    [
        ({}, ("validation",), ["loss", "accuracy", "learning rate"]),
        (METRICS, (), ["loss", "accuracy", "learning rate"]),  # measured in the test alone
        (METRICS, ("validation",), ["loss", "accuracy", "learning rate", "top2", "f1", "ece"]),
        (
            {"a": 1.0},
            ("validation", "test"),
            ["loss", "accuracy", "learning rate", "a", "", ""],
        ),
    ],
)
def test_metrics_of_epochs_get_a_panel_each(
    metrics: dict[str, float | None], parts: tuple[str, ...], panels: list[str]
) -> None:
    figure = curves_figure([fold(metrics, parts)])
    assert [axis.get_ylabel() for axis in figure.axes] == panels
    figure.canvas.draw()


def test_curves_are_the_values_and_means_over_folds_where_a_metric_has_several() -> None:
    folds = [fold(METRICS, ("validation",), scale) for scale in (1.0, 3.0)]
    panels = {axis.get_ylabel(): axis for axis in curves_figure(folds).axes}
    curves = [numbers(line) for line in panels["top2"].lines if numbers(line)]
    assert curves == [[0.5, 1.0, 1.5], [1.5, 3.0, 4.5]]
    by_name = {line.get_label(): numbers(line) for line in panels["f1"].lines}
    assert by_name["0"] == pytest.approx([0.2, 0.4, 0.6])
    assert all(map(math.isnan, by_name["1"]))
    assert list(by_name) == ["0", "1", "2"]

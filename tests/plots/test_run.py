"""The plots of a run say what they show: which folds, which loss, counts of which images."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mnist_exp.data import Dataset
from mnist_exp.plots.curves import curves_figure
from mnist_exp.plots.device import shares_figure
from mnist_exp.plots.figures import BLUE, VERMILION, to_hex
from mnist_exp.plots.run import confusion_figure, predictions_figure
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
    panels = {axis.get_ylabel(): axis for axis in curves_figure(folds, percent={"top2"}).axes}
    curves = [numbers(line) for line in panels["top2"].lines]
    assert curves == [[0.5, 1.0, 1.5], [1.5, 3.0, 4.5], [1.0, 2.0, 3.0]]
    first, second, mean = (line.get_color() for line in panels["top2"].lines)
    assert first != second != mean == "black"
    labels = [panels[name].yaxis.get_major_formatter()(0.5) for name in ("accuracy", "top2", "f1")]
    assert labels[:2] == ["50%", "50%"]
    assert "%" not in labels[2]
    by_name = {line.get_label(): numbers(line) for line in panels["f1"].lines}
    assert by_name["0"] == pytest.approx([0.2, 0.4, 0.6])
    assert all(map(math.isnan, by_name["1"]))
    assert list(by_name) == ["0", "1", "2"]


def test_the_loss_with_smoothed_labels_is_told_from_that_of_the_evaluations() -> None:
    one = [fold({}, ("test",))]
    loss, accuracy, _ = curves_figure(one, loss_note="labels smoothed by 0.1").axes
    assert [line.get_label() for line in loss.lines[1:]] == [
        "train (labels smoothed by 0.1)",
        "test (plain cross-entropy)",
    ]
    plain = [str(line.get_label()) for line in accuracy.lines[1:]]
    assert plain == ["train", "test"]
    assert [line.get_label() for line in curves_figure(one).axes[0].lines[1:]] == plain


def test_a_confusion_matrix_counts_images_of_all_folds_on_a_scale_of_colours() -> None:
    figure = confusion_figure(torch.tensor([[1200, 1], [3, 796]]), ["shoe", "bag"], folds=3)
    axis, scale = figure.axes
    assert [text.get_text() for text in axis.texts] == ["1,200", "1", "3", "796"]
    assert axis.get_title() == "Test images of all 3 folds: 1,996 of 2,000 right (99.80%)"
    figure.canvas.draw()
    ticks = [label.get_text() for label in scale.get_yticklabels()]
    assert ticks == ["0%", "0.1%", "1%", "5%", "20%", "50%", "100%"]


def test_predictions_name_the_fold_and_both_classes_of_a_mistake(mnist: Dataset) -> None:
    indices = torch.arange(4)
    wrong = mnist.labels[:4].clone()
    wrong[3] = (wrong[3] + 1) % 10
    figure = predictions_figure(mnist, indices, wrong, 4, " of fold 2")
    assert "test images of fold 2" in figure.get_suptitle()
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == [
        *(str(int(label)) for label in mnist.labels[:3]),
        f"true {int(mnist.labels[3])}\npredicted {int(wrong[3])}",
    ]
    edges = [to_hex(frame.get_edgecolor()) for frame in axis.patches]
    assert edges == [colour.lower() for colour in (*[BLUE] * 3, VERMILION)]


def test_shares_are_short_percentages_also_where_they_are_tiny_or_zero() -> None:
    rows = [{"epoch": 1, "share_rounded_away": 0.0, "share_at_min": 1.2e-5, "share_at_max": 0.5}]
    figure = shares_figure([rows, rows])
    figure.canvas.draw()
    zeros, tiny, _ = ([t.get_text() for t in axis.get_yticklabels()] for axis in figure.axes)
    assert zeros[0] == "0%"
    assert zeros[-1] == "1%"
    assert "0.001%" in tiny
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2  # a colour a fold

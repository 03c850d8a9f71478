"""The plots of gradients show the values given, also if some are not finite."""

from __future__ import annotations

import math

import numpy as np

from mnist_exp.data import Dataset
from mnist_exp.plots.gradients import (
    hardest_figure,
    norms_by_class_figure,
    norms_over_epochs_figure,
)

NAMES = [str(digit) for digit in range(10)]


def test_norms_by_class_leave_out_what_is_not_finite() -> None:
    norms = np.array([1.0, 2.0, 4.0, math.nan, 0.0, math.inf])
    figure = norms_by_class_figure(norms, np.array([3, 3, 5, 5, 5, 3]), NAMES, epoch=7)
    bars = [
        sum(bar.get_height() for bar in axis.patches)  # type: ignore[attr-defined]
        for axis in figure.axes
    ]
    assert bars == [2, 1]
    assert [axis.get_ylabel() for axis in figure.axes] == ["3", "5"]
    assert figure.get_suptitle() == "Samples by gradient norm in each class, epoch 7"


def test_norms_over_epochs_have_a_line_each_for_samples_and_mean() -> None:
    quantiles = {percent: [percent / 10, math.nan] for percent in (5, 25, 50, 75, 95)}
    axis = norms_over_epochs_figure([1, 4], quantiles, [0.25, 0.125]).axes[0]
    median, mean = (np.asarray(line.get_ydata()) for line in axis.lines)
    assert np.array_equal(median, [5.0, math.nan], equal_nan=True)
    assert mean.tolist() == [0.25, 0.125]
    assert axis.get_xticks().tolist() == [1, 4]


def test_hardest_samples_are_labelled(mnist: Dataset) -> None:
    images = mnist.images[:2].numpy()
    figure = hardest_figure(images, [0, 1], [5, 0], [None, 6], [math.nan, 2.0], NAMES, epoch=3)
    assert figure.get_suptitle() == "Samples with the largest gradients, epoch 3"
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == [
        "#0, norm not finite\ntrue 5",  # a collection of an earlier version
        "#1, norm 2\ntrue 0\npredicted 6",
    ]

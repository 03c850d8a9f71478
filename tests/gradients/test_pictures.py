"""The plots of stored gradients show the values on disk."""

from __future__ import annotations

import importlib
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from mnist_exp.data import Dataset
from mnist_exp.gradients import collect
from mnist_exp.gradients.pictures import draw_gradients, gradient_figures
from mnist_exp.gradients.stored import open as open_epoch
from mnist_exp.plots.image_grid import grid_figure
from tests.helpers.gradient_samples import collection_settings, samples_of, small_network

NAMES = [str(digit) for digit in range(10)]


@pytest.mark.slow
def test_pictures_of_a_run(mnist: Dataset, tmp_path: Path) -> None:
    """No epoch gives no plots, one gives two, and the course over epochs needs a second."""
    samples = samples_of(mnist, torch.arange(100))
    plots = tmp_path / "plots"
    expected = {"gradient_norms_by_class.png", "gradient_hardest_samples.png"}
    assert draw_gradients(tmp_path, mnist.images, plots, class_names=NAMES, dpi=50) == []
    assert not plots.exists()
    for epoch in (9, 10):
        collect(small_network(seed=epoch), samples, tmp_path, collection_settings(), epoch=epoch)
        drawn = draw_gradients(tmp_path, mnist.images, plots, class_names=NAMES, dpi=50)
        assert {path.name for path in drawn} == expected
        assert all(np.ptp(matplotlib.image.imread(path)) > 0 for path in drawn)
        expected.add("gradient_norms_over_epochs.png")


def test_what_the_figures_hold(mnist: Dataset, tmp_path: Path) -> None:
    samples = samples_of(mnist, torch.arange(100))
    statistics = {
        epoch: collect(
            small_network(seed=epoch), samples, tmp_path, collection_settings(), epoch=epoch
        )
        for epoch in (1, 2)
    }
    figures = gradient_figures(tmp_path, mnist.images, NAMES, " of fold 1")
    assert [figure.get_suptitle() for figure in figures.values()] == [
        "Samples of fold 1 by gradient norm in each class, epoch 2",
        "Samples with the largest gradients of fold 1, epoch 2",
        "",
    ]
    assert figures["gradient_norms_over_epochs"].axes[0].get_xlabel() == "epoch of fold 1"
    hardest = statistics[2]["hardest"]
    (axis,) = figures["gradient_hardest_samples"].axes
    for text, sample in zip(axis.texts, hardest, strict=True):
        assert text.get_text().splitlines() == [
            f"#{sample['sample_id']}, norm {sample['norm']:.3g}",
            f"true {sample['label']}",
            f"predicted {sample['predicted']}",
        ]
    images = mnist.images[[sample["sample_id"] for sample in hardest]].numpy()
    expected = (
        grid_figure(images, "title", texts=["\n\n"] * len(hardest), columns=5).axes[0].images[0]
    )
    assert np.array_equal(np.asarray(axis.images[0].get_array()), np.asarray(expected.get_array()))
    stored = open_epoch(tmp_path / "epoch_2")
    bars = [
        sum(bar.get_height() for bar in axis.patches)  # type: ignore[attr-defined]
        for axis in figures["gradient_norms_by_class"].axes
    ]
    assert bars == stored.labels.bincount().tolist()
    median = np.asarray(figures["gradient_norms_over_epochs"].axes[0].lines[0].get_ydata())
    assert median.tolist() == [statistics[e]["total"]["norm"]["p50"] for e in (1, 2)]


def test_the_old_name_still_draws() -> None:
    assert importlib.import_module("mnist_exp.gradients.plots").draw_gradients is draw_gradients

"""Plots of per-sample gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.plots.figures import BLUE, ORANGE, Figure, plain_log
from mnist_exp.plots.image_grid import grid_figure

BINS = 40


def norms_by_class_figure(
    norms: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    class_names: Sequence[str],
    epoch: int,
    of_fold: str = "",
) -> Figure:
    """Draw a histogram of the samples' gradient norms for each class, stacked vertically.

    Parameters
    ----------
    norms
        float [N]; zeros and values that are not finite are left out.
    labels
        int [N].
    class_names
        Indexed by label.
    epoch, of_fold
        Shown in the title; ``" of fold 1"`` where there are several folds.
    """
    shown = np.isfinite(norms) & (norms > 0)
    classes = np.unique(labels)
    figure = Figure(figsize=(7, 0.55 * len(classes) + 1.5), layout="constrained")
    axes = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.geomspace(norms[shown].min(), norms[shown].max(), BINS) if shown.any() else BINS
    for axis, label in zip(axes, classes, strict=True):
        own = norms[shown & (labels == label)]
        axis.hist(own, bins=edges, color=BLUE)
        if own.size:
            axis.axvline(np.median(own), color="black", linewidth=1.2)
        plain_log(axis, "x")
        axis.set_yticks([])
        axis.set_ylabel(class_names[label], rotation=0, ha="right", va="center")
        axis.spines[["top", "left", "right"]].set_visible(False)
    axes[-1].set_xlabel("norm of a sample's gradient (line: median of the class)")
    figure.suptitle(f"Samples{of_fold} by gradient norm in each class, epoch {epoch}", fontsize=11)
    return figure


def norms_over_epochs_figure(
    epochs: Sequence[int],
    quantiles: Mapping[int, Sequence[float]],
    means: Sequence[float],
    of_fold: str = "",
) -> Figure:
    """Draw the samples' gradient norms and the norm of the mean gradient over epochs.

    Parameters
    ----------
    epochs
        Epoch numbers.
    quantiles
        Quantiles of the samples' norms for each epoch, keyed by per cent: 5, 25, 50, 75 and 95.
    means
        Norm of the mean gradient for each epoch. NaN leaves a gap, here and in the quantiles.
    of_fold
        Shown at the axis; ``" of fold 1"`` where there are several folds.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for low, high, alpha in ((5, 95, 0.2), (25, 75, 0.35)):
        label = f"{low}% to {high}% of samples"
        axis.fill_between(
            epochs, quantiles[low], quantiles[high], color=BLUE, alpha=alpha, lw=0, label=label
        )
    axis.plot(epochs, quantiles[50], color=BLUE, marker="o", label="median sample")
    axis.plot(epochs, means, color=ORANGE, marker="s", label="mean gradient")
    plain_log(axis, "y")
    axis.set_xticks(epochs if len(epochs) <= 20 else epochs[:: math.ceil(len(epochs) / 20)])
    axis.set_xlabel(f"epoch{of_fold}")
    axis.set_ylabel("gradient norm")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def hardest_figure(
    images: npt.NDArray[Any],
    ids: Sequence[int],
    labels: Sequence[int],
    predictions: Sequence[int | None],
    norms: Sequence[float],
    class_names: Sequence[str],
    epoch: int,
    of_fold: str = "",
) -> Figure:
    """Draw the images with the largest gradient norms, each with true and predicted class.

    Parameters
    ----------
    images
        uint8 [N, H, W] or [N, C, H, W], largest norm first.
    ids, labels, predictions, norms
        Sample id, label, predicted label and norm of each image. A prediction is None if the
        collection did not record it; a norm may be NaN.
    class_names
        Indexed by label.
    epoch, of_fold
        Shown in the title; ``" of fold 1"`` where there are several folds.
    """
    texts = []
    for number, label, predicted, norm in zip(ids, labels, predictions, norms, strict=True):
        size = f"{norm:.3g}" if math.isfinite(norm) else "not finite"
        lines = [f"#{number}, norm {size}", f"true {class_names[label]}"]
        if predicted is not None:
            lines.append(f"predicted {class_names[predicted]}")
        texts.append("\n".join(lines))
    title = f"Samples with the largest gradients{of_fold}, epoch {epoch}"
    return grid_figure(images, title, texts=texts, columns=min(5, len(images)))

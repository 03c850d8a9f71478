"""Plots of per-sample gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.plots.figures import Figure

BINS = 40


def norms_by_class_figure(
    norms: npt.NDArray[Any], labels: npt.NDArray[Any], class_names: Sequence[str], epoch: int
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
    epoch
        Shown in the title.
    """
    shown = np.isfinite(norms) & (norms > 0)
    classes = np.unique(labels)
    figure = Figure(figsize=(7, 0.55 * len(classes) + 1.5), layout="constrained")
    axes = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.geomspace(norms[shown].min(), norms[shown].max(), BINS) if shown.any() else BINS
    for axis, label in zip(axes, classes, strict=True):
        own = norms[shown & (labels == label)]
        axis.hist(own, bins=edges, color=f"C{label % 10}")
        if own.size:
            axis.axvline(np.median(own), color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_yticks([])
        axis.set_ylabel(class_names[label], rotation=0, ha="right", va="center")
        axis.spines[["top", "left", "right"]].set_visible(False)
    axes[-1].set_xlabel("norm of a sample's gradient (line: median of the class)")
    figure.suptitle(f"Gradient norms by class, epoch {epoch}")
    return figure


def norms_over_epochs_figure(
    epochs: Sequence[int], quantiles: Mapping[int, Sequence[float]], means: Sequence[float]
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
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for low, high, alpha in ((5, 95, 0.2), (25, 75, 0.35)):
        label = f"{low} to {high} % of samples"
        axis.fill_between(
            epochs, quantiles[low], quantiles[high], color="C0", alpha=alpha, lw=0, label=label
        )
    axis.plot(epochs, quantiles[50], color="C0", marker="o", label="median sample")
    axis.plot(epochs, means, color="C1", marker="s", label="mean gradient")
    axis.set_yscale("log")
    axis.set_xticks(epochs if len(epochs) <= 20 else epochs[:: math.ceil(len(epochs) / 20)])
    axis.set_xlabel("epoch")
    axis.set_ylabel("gradient norm")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def hardest_figure(
    images: npt.NDArray[Any],
    ids: Sequence[int],
    labels: Sequence[int],
    norms: Sequence[float],
    class_names: Sequence[str],
) -> Figure:
    """Draw the images with the largest gradient norms, each with label, norm and sample id.

    Parameters
    ----------
    images
        uint8 [N, H, W], largest norm first.
    ids, labels, norms
        Sample id, label and norm of each image; a norm may be NaN.
    class_names
        Indexed by label.
    """
    columns = min(5, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, number, label, norm in zip(axes, images, ids, labels, norms, strict=False):
        axis.imshow(image, cmap="gray")
        size = f"{norm:.3g}" if math.isfinite(norm) else "not finite"
        axis.set_title(f"{class_names[label]}   |g| {size}\n#{number}", fontsize=8)
    figure.suptitle("Largest gradients")
    return figure

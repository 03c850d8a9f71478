"""The pictures of collected gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.gradients.location import located
from mnist_exp.gradients.stored import StoredGradients, open
from mnist_exp.plots.figures import write_png

if TYPE_CHECKING:
    from mnist_exp.plots.figures import Figure

BINS = 40


def draw_gradients(
    gradients_directory: Path,
    images: Tensor,
    plots_directory: Path,
    *,
    class_names: Sequence[str],
    dpi: int,
) -> list[Path]:
    """Draw all pictures of the epochs collected in a directory; return the files.

    Parameters
    ----------
    gradients_directory
        Holds epoch_0, epoch_1, ...; the last is drawn in detail.
    images
        Of the data set that the sample ids count, uint8 [M, H, W].
    plots_directory
        Made if need be.
    class_names
        By label.
    dpi
        Dots an inch.

    Raises
    ------
    UserError
        If an epoch is damaged or of other data.
    """
    names = (path.name for path in located(gradients_directory).glob("epoch_*"))
    numbers = sorted(int(name[6:]) for name in names if name[6:].isdecimal())
    if not numbers:
        return []
    epochs = {number: open(gradients_directory / f"epoch_{number}") for number in numbers}
    last = epochs[numbers[-1]]
    _check_labels(last, len(images), len(class_names))
    figures = {
        "gradient_norms_by_class": norms_by_class_figure(last, class_names),
        "gradient_hardest_samples": hardest_figure(last.statistics["hardest"], images, class_names),
    }
    if len(epochs) > 1:
        statistics = {number: epoch.statistics for number, epoch in epochs.items()}
        figures["gradient_norms_over_epochs"] = norms_over_epochs_figure(statistics)
    plots_directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(plots_directory / f"{name}.png")
        write_png(paths[-1], figure, dpi)
    return paths


def _check_labels(epoch: StoredGradients, num_images: int, num_classes: int) -> None:
    hardest = epoch.statistics["hardest"]
    ids = [sample["sample_id"] for sample in hardest]
    labels = [*epoch.labels.tolist(), *(sample["label"] for sample in hardest)]
    if not (0 <= min(labels) <= max(labels) < num_classes and max(ids, default=0) < num_images):
        raise UserError(f"{epoch.directory}: its samples are not those of this data set.")


def norms_by_class_figure(epoch: StoredGradients, class_names: Sequence[str]) -> Figure:
    """Draw a histogram of the samples' gradient norms for each class, one above the other."""
    from mnist_exp.plots.figures import Figure

    norms, labels = epoch.norms().numpy(), epoch.labels.numpy()
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
    figure.suptitle(f"Gradient norms by class, epoch {epoch.manifest['epoch']}")
    return figure


def norms_over_epochs_figure(statistics: Mapping[int, Mapping[str, Any]]) -> Figure:
    """Draw how the samples' norms and the norm of the mean gradient change with the epoch."""
    from mnist_exp.plots.figures import Figure

    epochs = list(statistics)
    totals = [statistics[epoch]["total"] for epoch in epochs]
    quantiles = {
        key: [math.nan if t["norm"][key] is None else t["norm"][key] for t in totals]
        for key in ("p5", "p25", "p50", "p75", "p95")
    }
    means = [math.nan if (m := t["mean_gradient_norm"]) is None else m for t in totals]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for low, high, alpha in (("p5", "p95", 0.2), ("p25", "p75", 0.35)):
        label = f"{low[1:]} to {high[1:]} % of samples"
        axis.fill_between(
            epochs, quantiles[low], quantiles[high], color="C0", alpha=alpha, lw=0, label=label
        )
    axis.plot(epochs, quantiles["p50"], color="C0", marker="o", label="median sample")
    axis.plot(epochs, means, color="C1", marker="s", label="mean gradient")
    axis.set_yscale("log")
    axis.set_xticks(epochs if len(epochs) <= 20 else epochs[:: math.ceil(len(epochs) / 20)])
    axis.set_xlabel("epoch")
    axis.set_ylabel("gradient norm")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def hardest_figure(
    hardest: Sequence[Mapping[str, Any]], images: Tensor, class_names: Sequence[str]
) -> Figure:
    """Draw the images with the largest gradient norms, each with label, norm and sample id."""
    from mnist_exp.plots.figures import Figure

    columns = min(5, len(hardest))
    rows = math.ceil(len(hardest) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, sample in zip(axes, hardest, strict=False):
        axis.imshow(images[sample["sample_id"]].cpu().numpy(), cmap="gray")
        norm = "not finite" if sample["norm"] is None else f"{sample['norm']:.3g}"
        axis.set_title(
            f"{class_names[sample['label']]}   |g| {norm}\n#{sample['sample_id']}", fontsize=8
        )
    figure.suptitle("Largest gradients")
    return figure

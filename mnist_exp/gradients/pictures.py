"""Pictures of a run's collected gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.gradients.location import located
from mnist_exp.gradients.stored import StoredGradients, open
from mnist_exp.plots.figures import Figure, write_picture
from mnist_exp.plots.gradients import (
    hardest_figure,
    norms_by_class_figure,
    norms_over_epochs_figure,
)


def draw_gradients(
    gradients_directory: Path,
    images: Tensor,
    plots_directory: Path,
    *,
    class_names: Sequence[str],
    dpi: int,
    kind: str = "png",
    of_fold: str = "",
) -> list[Path]:
    """Draw all pictures of the epochs in a directory; return the files.

    Parameters
    ----------
    gradients_directory
        Holds epoch_0, epoch_1, ...; the last is drawn in detail.
    images
        uint8 [M, H, W] or [M, C, H, W]; the sample ids are its rows.
    plots_directory
        Created if missing.
    class_names
        Names in the order of the labels.
    dpi
        Dots per inch.
    kind
        Of the files: "png", "svg" or "pdf".
    of_fold
        ``" of fold 1"``, for the titles, where there are several folds.

    Raises
    ------
    UserError
        If an epoch is damaged or belongs to another data set.
    """
    figures = gradient_figures(gradients_directory, images, class_names, of_fold)
    if figures:
        plots_directory.mkdir(parents=True, exist_ok=True)
    paths = [plots_directory / f"{name}.{kind}" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        write_picture(path, figure, dpi)
    return paths


def gradient_figures(
    gradients_directory: Path, images: Tensor, class_names: Sequence[str], of_fold: str = ""
) -> dict[str, Figure]:
    """Return the pictures of `draw_gradients` by name; empty if no epoch was collected."""
    names = (path.name for path in located(gradients_directory).glob("epoch_*"))
    numbers = sorted(int(name[6:]) for name in names if name[6:].isdecimal())
    if not numbers:
        return {}
    epochs = {number: open(gradients_directory / f"epoch_{number}") for number in numbers}
    last = epochs[numbers[-1]]
    _check_labels(last, len(images), len(class_names))
    figures = {
        "gradient_norms_by_class": norms_by_class_figure(
            last.norms().numpy(), last.labels.numpy(), class_names, last.manifest["epoch"], of_fold
        ),
        "gradient_hardest_samples": _hardest(last, images, class_names, of_fold),
    }
    if len(epochs) > 1:
        figures["gradient_norms_over_epochs"] = _over_epochs(epochs, of_fold)
    return figures


def _check_labels(epoch: StoredGradients, num_images: int, num_classes: int) -> None:
    hardest = epoch.statistics["hardest"]
    ids = [sample["sample_id"] for sample in hardest]
    labels = [
        *epoch.labels.tolist(),
        *(sample[key] for sample in hardest for key in ("label", "predicted") if key in sample),
    ]
    if not (0 <= min(labels) <= max(labels) < num_classes and max(ids, default=0) < num_images):
        raise UserError(f"{epoch.directory}: its samples are not those of this data set.")


def _hardest(
    epoch: StoredGradients, images: Tensor, class_names: Sequence[str], of_fold: str
) -> Figure:
    samples = epoch.statistics["hardest"]
    ids = [sample["sample_id"] for sample in samples]
    return hardest_figure(
        images[ids].cpu().numpy(),
        ids,
        [sample["label"] for sample in samples],
        [sample.get("predicted") for sample in samples],
        [_number(sample["norm"]) for sample in samples],
        class_names,
        epoch.manifest["epoch"],
        of_fold,
    )


def _over_epochs(epochs: dict[int, StoredGradients], of_fold: str) -> Figure:
    totals = [epoch.statistics["total"] for epoch in epochs.values()]
    quantiles = {
        percent: [_number(total["norm"][f"p{percent}"]) for total in totals]
        for percent in (5, 25, 50, 75, 95)
    }
    means = [_number(total["mean_gradient_norm"]) for total in totals]
    return norms_over_epochs_figure(list(epochs), quantiles, means, of_fold)


def _number(value: float | None) -> float:
    return math.nan if value is None else value

"""What the end of a run leaves for people to look at: predictions.npz and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from mnist_exp.data import Dataset
from mnist_exp.data.batches import Augmentation, Images
from mnist_exp.experiment.fold import Fold
from mnist_exp.experiment.sweep_defaults import keeps_predictions, reports
from mnist_exp.report.faults import only_warned
from mnist_exp.report.images import SAMPLES, RunImages
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.predictions import joined, write_predictions
from mnist_exp.run.results import COMPLETED


def write_report(first: Fold, folds: Sequence[FoldResult], results: dict[str, Any]) -> None:
    """Write the predictions and the page of a run, as far as its settings ask for them."""
    parts, directory = first.parts, first.run.path
    if keeps_predictions(parts.config, parts.in_sweep):
        labels = parts.dataset.labels
        found = [
            (split.fold or 1, split.test.numpy(), labels[split.test].numpy(), _probabilities(fold))
            for split, fold in zip(parts.splits, folds, strict=True)
        ]
        write_predictions(directory, joined(found))
    if not reports(parts.config, parts.in_sweep):
        return
    with only_warned(directory):
        # loads Jinja2
        from mnist_exp.report.run_files import Ended
        from mnist_exp.report.run_page import write_run_report

        shown = run_images(
            parts.dataset,
            first.split.train,
            parts.images,
            parts.recipe.augmentation,
            parts.config.seed,
        )
        rows, steps = (
            [{"fold": fold.fold or 1, **row} for fold in folds for row in getattr(fold, kind)]
            for kind in ("history", "steps")
        )
        ended = Ended({**results, "status": COMPLETED}, rows, steps)
        write_run_report(directory, shown, ended=ended)


def _probabilities(fold: FoldResult) -> Any:
    logits = fold.evaluation.logits
    assert logits is not None, "the fold kept them for this"
    return logits.softmax(1).numpy()


def run_images(
    dataset: Dataset,
    train: Tensor,
    images: Images,
    augmentation: Augmentation | None,
    seed: int,
) -> RunImages:
    """Return what a run's page shows of a data set.

    Parameters
    ----------
    dataset : Dataset
        The run's.
    train : Tensor
        Indices of training images.
    images : Images
        The data set as the network sees it.
    augmentation : callable or None
        The run's.
    seed : int
        Of the augmentation's draws.
    """
    augmented = augmented_inputs(images, augmentation, train, seed)
    return RunImages(
        dataset.images.numpy(),
        dataset.labels.numpy(),
        train[:SAMPLES].numpy(),
        None if augmented is None else (shades(augmented) * 255).round().byte().numpy(),
    )


def augmented_inputs(
    images: Images, augmentation: Augmentation | None, indices: Tensor, seed: int
) -> Tensor | None:
    """Return inputs [7, 8, C, H, W]: an image and 7 augmentations per row; None without any."""
    if augmentation is None:
        return None
    pixels = images.pixels[indices[:7].to(images.device)]
    generator = Generator(images.device).manual_seed(seed)
    originals = images.inputs(pixels)  # (7, C, H, W)
    draws = images.inputs(torch.cat([pixels] * 7), augmentation, generator)
    columns = torch.cat([originals, draws]).unflatten(0, (-1, len(originals)))
    return columns.transpose(0, 1).cpu()


def shades(examples: Tensor) -> Tensor:
    """Return inputs in [0, 1] by the darkest and brightest of the originals, [:, 0]."""
    black, white = float(examples[:, 0].min()), float(examples[:, 0].max())
    return ((examples - black) / max(white - black, 1e-30)).clamp(0, 1)

"""Plots of a finished run."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_exp.experiment.fold import Fold
from mnist_exp.experiment.run_report import augmented_inputs
from mnist_exp.files.names import check_plain_name
from mnist_exp.plots import run as plots
from mnist_exp.plots.figures import write_picture
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.train.metrics import in_percent


def draw_pictures(first: Fold, folds: Sequence[FoldResult]) -> None:
    """Draw the plots of a run and those of its callbacks, and any gradients of its first split."""
    parts, training = first.parts, first.training
    config, directory = parts.config, training.run / "plots"
    dpi, kind = config.plots.dpi, config.plots.format
    plots.draw_run(
        directory,
        parts.dataset,
        parts.splits,
        folds,
        augmented_inputs(parts.images, parts.recipe.augmentation, first.split.train, config.seed),
        num_samples=config.plots.num_samples,
        dpi=dpi,
        kind=kind,
        loss_note=parts.recipe.loss_note,
        percent=in_percent(parts.metrics),
    )
    for key, callback in first.callbacks.items():
        for name, figure in callback.figures(folds).items():
            check_plain_name(name, f"{key}: the name of a figure")
            write_picture(directory / f"{name}.{kind}", figure, dpi)
    if config.gradients.get("_target_") is not None:
        from mnist_exp.gradients.pictures import draw_gradients

        draw_gradients(
            training.directory / config.gradients.directory,
            parts.dataset.images,
            directory,
            class_names=parts.dataset.class_names,
            dpi=dpi,
            kind=kind,
            of_fold=f" of fold {first.split.fold}" if len(folds) > 1 else "",
        )

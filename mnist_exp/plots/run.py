"""Plots of a run: each ``*_figure`` function makes one figure from data and results."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.plots.curves import curves_figure
from mnist_exp.plots.figures import (
    BLUE,
    SLANTED,
    VERMILION,
    Axes,
    Figure,
    PowerNorm,
    ScalarMappable,
    add_fold_legend,
    colours_of,
    in_percent,
    plain_log,
    whole_ticks,
    write_picture,
)
from mnist_exp.plots.image_grid import grid_figure
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.train.state import Row

RIGHT, WRONG = BLUE, VERMILION
SHORT = 3  # characters of class names that fit side by side


def draw_run(
    directory: Path,
    dataset: Dataset,
    splits: Sequence[Split],
    folds: Sequence[FoldResult],
    augmented: Tensor | None,
    *,
    num_samples: int,
    dpi: int,
    kind: str = "png",
    loss_note: str = "",
    percent: Collection[str] = (),
) -> None:
    """Draw every plot of a finished run into ``directory``, one at a time, as files of a kind."""
    directory.mkdir(exist_ok=True)
    figures = run_figures(dataset, splits, folds, augmented, num_samples, loss_note, percent)
    for name, figure in figures:
        write_picture(directory / f"{name}.{kind}", figure, dpi)


def run_figures(
    dataset: Dataset,
    splits: Sequence[Split],
    folds: Sequence[FoldResult],
    augmented: Tensor | None,
    num_samples: int,
    loss_note: str = "",
    percent: Collection[str] = (),
) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of every plot of a run.

    ``loss_note`` says how the training loss differs from the others, as `Recipe.loss_note`;
    the metrics named in ``percent`` are shown in per cent.
    """
    first_split, first_fold = splits[0], folds[0]
    of_fold = f" of fold {first_split.fold}" if len(folds) > 1 else ""
    yield "mnist_samples", samples_figure(dataset, first_split.train[:num_samples], of_fold)
    yield "training_curves", curves_figure(folds, loss_note, percent)
    predicted = first_fold.evaluation.predictions
    yield (
        "predictions",
        predictions_figure(dataset, first_split.test, predicted, num_samples, of_fold),
    )
    matrix = torch.stack([fold.evaluation.confusion_matrix for fold in folds]).sum(0)
    yield "confusion_matrix", confusion_figure(matrix, dataset.class_names, len(folds))
    if augmented is not None:
        yield "augmented_samples", augmented_figure(augmented)
    if len(folds) > 1:
        yield "accuracy_by_fold", folds_figure([fold.evaluation.accuracy for fold in folds])


def samples_figure(dataset: Dataset, indices: Tensor, of_fold: str = "") -> Figure:
    """Draw a grid of images with their labels."""
    labels = dataset.labels[indices].tolist()
    return grid_figure(
        dataset.images[indices].numpy(),
        f"{dataset.name}: training images{of_fold} and their labels",
        texts=[dataset.class_names[label] for label in labels],
        text_size=9,
    )


def augmented_figure(examples: Tensor) -> Figure:
    """Draw inputs [rows, columns, C, H, W]: in each row the original, then augmented versions."""
    rows, columns = examples.shape[:2]
    black, white = float(examples[:, 0].min()), float(examples[:, 0].max())
    shades = ((examples - black) / max(white - black, 1e-30)).clamp(0, 1).flatten(0, 1)
    return grid_figure(
        shades.numpy(),
        "Training images (blue frame) and augmented versions of each",
        frames=[BLUE, *[None] * (columns - 1)] * rows,
        columns=columns,
    )


def predictions_figure(
    dataset: Dataset, indices: Tensor, predictions: Tensor, num_samples: int, of_fold: str = ""
) -> Figure:
    """Draw test images with their predictions, right in a blue frame and wrong in an orange one.

    At most half are wrong ones, unless there are too few right ones.
    """
    is_wrong = predictions != dataset.labels[indices]
    wrong, right = is_wrong.nonzero().flatten(), (~is_wrong).nonzero().flatten()
    shown_wrong = wrong[: max(num_samples // 2, num_samples - len(right))]
    shown = torch.cat([right[: num_samples - len(shown_wrong)], shown_wrong])
    texts = []
    for true, predicted in zip(
        dataset.labels[indices[shown]].tolist(), predictions[shown].tolist(), strict=True
    ):
        text = dataset.class_names[true]
        if true != predicted:
            text = f"true {text}\npredicted {dataset.class_names[predicted]}"
        texts.append(text)
    return grid_figure(
        dataset.images[indices[shown]].numpy(),
        f"{dataset.name}, test images{of_fold}: predicted right (blue) or wrong (orange);\n"
        f"of all {len(indices):,}, {len(wrong):,} are wrong",
        texts=texts,
        frames=[WRONG if mistaken else RIGHT for mistaken in is_wrong[shown].tolist()],
    )


def confusion_figure(matrix: Tensor, class_names: Sequence[str], folds: int = 1) -> Figure:
    """Draw a confusion matrix, coloured by the share of each true class.

    Parameters
    ----------
    matrix : Tensor
        int64 [K, K], rows are true classes; counts over the test images of all folds.
    class_names : sequence of str
        Indexed by label.
    folds : int
        Number of folds that were summed, for the title.
    """
    size, longest = len(class_names), max(map(len, class_names))
    figure, axis, bar_axis = _matrix_axes(size, longest)
    shares = (matrix / matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
    norm = PowerNorm(0.35, 0, 1)  # makes the few errors stand out from the background
    axis.imshow(shares, cmap="Blues", norm=norm)
    for row in range(size):
        for column in range(size):
            dark = float(norm(shares[row, column])) > 0.6
            text = f"{int(matrix[row, column]):,}"
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
            axis.text(column, row, text, color="white" if dark else "black", **place)
    axis.set_xticks(range(size), class_names, **(SLANTED if longest > SHORT else {}))
    axis.set_yticks(range(size), class_names)
    bar = figure.colorbar(ScalarMappable(norm, "Blues"), cax=bar_axis)
    bar.set_ticks([0, 0.001, 0.01, 0.05, 0.2, 0.5, 1], minor=False)
    bar_axis.yaxis.set_major_formatter(in_percent)
    bar.set_label("share of the true class's images")
    right, images = int(matrix.diag().sum()), int(matrix.sum())
    title = "Test images" if folds == 1 else f"Test images of all {folds} folds"
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(f"{title}: {right:,} of {images:,} right ({right / images:.2%})", fontsize=11)
    return figure


def _matrix_axes(size: int, longest: int) -> tuple[Figure, Axes, Axes]:
    """Return a figure with axes of a matrix and of its colour bar, with room for class names.

    matplotlib's own layout would measure every number of the matrix: as long as drawing them.
    """
    name = 0.11 * longest  # inches, of capitals
    left, bottom = 0.6 + name, 0.65 + (0.7 * name if longest > SHORT else 0)
    side = max(4.0, 0.6 * size + 0.3)
    width, height = left + side + 1.3, bottom + side + 0.4
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, bottom / height, side / width, side / height))
    beside, up = (left + side + 0.13) / width, (bottom + 0.1 * side) / height
    return figure, axis, figure.add_axes((beside, up, 0.25 / width, 0.8 * side / height))


def folds_figure(accuracies: Sequence[float]) -> Figure:
    """Draw the accuracy of each fold, their mean and their sample standard deviation."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    folds = range(1, len(accuracies) + 1)
    mean, std = statistics.mean(accuracies), statistics.stdev(accuracies)
    axis.scatter(folds, accuracies, color=colours_of(len(accuracies)), zorder=3)
    axis.axhline(mean, color="black", linewidth=1.0, label=f"mean {mean:.2%}")
    label = f"sample std {std:.2%}"
    axis.axhspan(mean - std, mean + std, color="0.9", label=label)
    axis.set(xlabel="fold", ylabel="test accuracy", title="Test accuracy by fold")
    if len(accuracies) <= 20:
        axis.set_xticks(list(folds))
    axis.yaxis.set_major_formatter(in_percent)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def gradient_norms_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the first layer's gradient norm for every batch, one line per fold."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axis = figure.subplots()
    colours = [BLUE] if len(histories) == 1 else colours_of(len(histories))
    for history, colour in zip(histories, colours, strict=True):
        norms = [norm for row in history for norm in row["gradient_norms"]]
        axis.plot(range(1, len(norms) + 1), norms, linewidth=0.6, color=colour)
    if len(histories) > 1:
        add_fold_legend(figure, len(histories))
    axis.set(xlabel="step", ylabel="gradient norm")
    plain_log(axis, "y")
    whole_ticks(axis)
    axis.set_title("Gradient norm of the first layer", fontsize=11)
    axis.grid(alpha=0.3)
    return figure

"""Plots of a run: each ``*_figure`` function makes one figure from data and results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.plots.figures import Axes, Figure, PercentFormatter, write_png
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.train.state import Row

RIGHT, WRONG = "tab:green", "tab:red"
PARTS = {"train": "tab:blue", "validation": "tab:orange", "test": "tab:green"}


def draw_run(
    directory: Path,
    dataset: Dataset,
    splits: Sequence[Split],
    folds: Sequence[FoldResult],
    augmented: Tensor | None,
    *,
    num_samples: int,
    dpi: int,
) -> None:
    """Draw every plot of a finished run into ``directory``, one at a time."""
    directory.mkdir(exist_ok=True)
    for name, figure in run_figures(dataset, splits, folds, augmented, num_samples):
        write_png(directory / f"{name}.png", figure, dpi)


def run_figures(
    dataset: Dataset,
    splits: Sequence[Split],
    folds: Sequence[FoldResult],
    augmented: Tensor | None,
    num_samples: int,
) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of every plot of a run."""
    first_split, first_fold = splits[0], folds[0]
    yield "mnist_samples", samples_figure(dataset, first_split.train[:num_samples])
    yield "training_curves", curves_figure(folds)
    predicted = first_fold.evaluation.predictions
    yield "predictions", predictions_figure(dataset, first_split.test, predicted, num_samples)
    matrix = torch.stack([fold.evaluation.confusion_matrix for fold in folds]).double().mean(0)
    yield "confusion_matrix", confusion_figure(matrix, dataset.class_names)
    if augmented is not None:
        yield "augmented_samples", augmented_figure(augmented)
    if len(folds) > 1:
        yield "accuracy_by_fold", folds_figure([fold.evaluation.accuracy for fold in folds])


def samples_figure(dataset: Dataset, indices: Tensor) -> Figure:
    """Draw a grid of images with their labels."""
    figure, axes = _image_grid(len(indices))
    for axis, index in zip(axes, indices.tolist(), strict=False):
        axis.imshow(dataset.images[index].numpy(), cmap="gray")
        axis.set_title(dataset.class_names[dataset.labels[index]], fontsize=9)
    figure.suptitle(f"{dataset.name}: training images and their labels", fontsize=11)
    return figure


def augmented_figure(examples: Tensor) -> Figure:
    """Draw inputs [rows, columns, 28, 28]: in each row the original, then augmented versions."""
    rows, columns = examples.shape[:2]
    figure, axes = _image_grid(rows * columns, columns)
    black, white = float(examples[:, 0].min()), float(examples[:, 0].max())
    for axis, image in zip(axes, examples.flatten(0, 1), strict=True):
        axis.imshow(image.numpy(), cmap="gray", vmin=black, vmax=white)
    for axis in axes[::columns]:
        for spine in axis.spines.values():
            spine.set(visible=True, color="tab:blue", linewidth=2)
    figure.suptitle("Training images (blue) and their augmented versions", fontsize=11)
    return figure


def curves_figure(folds: Sequence[FoldResult]) -> Figure:
    """Draw loss, accuracy and learning rate over steps; several folds get a thin line each.

    Training batches are a pale line where steps.jsonl holds them, whole epochs are points. Below
    there is a panel for each metric measured every epoch.
    """
    metrics = _metrics_of_epochs(folds)
    lines = 1 + math.ceil(len(metrics) / 3)
    figure = Figure(figsize=(13, 3.6 * lines), layout="constrained")
    wide = 1.5 if len(folds) == 1 else 0.8
    panels = list(figure.subplots(lines, 3, squeeze=False).flat)
    for axis, metric in zip(panels, ("loss", "accuracy"), strict=False):
        for fold in folds:
            batches = [(row["step"], row[metric]) for row in fold.steps if metric in row]
            axis.plot(*_columns(batches), color=PARTS["train"], alpha=0.35, linewidth=0.8)
        _draw_parts(axis, folds, metric, wide)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    for fold in folds:
        rates = [(_step(row), row["lr"]) for row in fold.steps or fold.history]
        panels[2].plot(*_columns(rates), color="tab:gray", linewidth=wide)
    over = "step" if "step" in folds[0].history[0] else "epoch"
    for axis, (name, columns) in zip(panels[3:], metrics.items(), strict=False):
        if columns == [name]:
            _draw_parts(axis, folds, name, wide)
        else:
            _draw_values(axis, folds, columns)
    names = ("loss", "accuracy", "learning rate", *metrics)
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(panels, names, strict=False):
        axis.set(xlabel=over, ylabel=name)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
    title = "Training" if len(folds) == 1 else f"Training, {len(folds)} folds"
    figure.suptitle(f"{title}: batches (pale) and epochs (points)", fontsize=11)
    return figure


def _metrics_of_epochs(folds: Sequence[FoldResult]) -> dict[str, list[str]]:
    """Return the names of the values of each metric that is measured every epoch."""
    found: dict[str, list[str]] = {}
    for name in folds[0].evaluation.metrics:
        if any(f"{part}_{name}" in folds[0].history[0] for part in PARTS):
            found.setdefault(name.partition(".")[0], []).append(name)
    return found


def _draw_parts(axis: Axes, folds: Sequence[FoldResult], name: str, wide: float) -> None:
    """Draw a number of each epoch, a colour for training, validation and test images."""
    for part, colour in PARTS.items():
        column = f"{part}_{name}"
        for number, fold in enumerate(folds):
            epochs = [(_step(row), row[column]) for row in fold.history if column in row]
            label = part if number == 0 and epochs else None
            marker = "." if len(epochs) < 30 else None
            axis.plot(*_columns(epochs), color=colour, marker=marker, linewidth=wide, label=label)
    axis.legend()


def _draw_values(axis: Axes, folds: Sequence[FoldResult], names: Sequence[str]) -> None:
    """Draw the values of a metric that has several, as means over folds: a colour each."""
    part = next(part for part in PARTS if f"{part}_{names[0]}" in folds[0].history[0])
    for name in names:
        points = []
        for rows in zip(*(fold.history for fold in folds), strict=False):
            values = [row.get(f"{part}_{name}") for row in rows]
            known = [value for value in values if value is not None]
            points.append((_step(rows[0]), sum(known) / len(known) if known else math.nan))
        axis.plot(*_columns(points), linewidth=1.0, marker=".", label=name.partition(".")[2])
    axis.legend(title=part, fontsize=7, title_fontsize=7, ncols=2)


def _step(row: Row) -> int:
    """Return a row's position on the x axis; version 0.1 recorded no steps."""
    step: int = row["step"] if "step" in row else row["epoch"]
    return step


def _columns(points: Sequence[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [math.nan if y is None else y for _, y in points]


def predictions_figure(
    dataset: Dataset, indices: Tensor, predictions: Tensor, num_samples: int
) -> Figure:
    """Draw test images with their predictions, right in green and wrong in red.

    At most half are wrong ones, unless there are too few right ones.
    """
    wrong = (predictions != dataset.labels[indices]).nonzero().flatten().tolist()
    right = (predictions == dataset.labels[indices]).nonzero().flatten().tolist()
    shown_wrong = wrong[: max(num_samples // 2, num_samples - len(right))]
    shown = right[: num_samples - len(shown_wrong)] + shown_wrong
    figure, axes = _image_grid(len(shown))
    for axis, position in zip(axes, shown, strict=False):
        index = int(indices[position])
        true, predicted = int(dataset.labels[index]), int(predictions[position])
        colour = RIGHT if true == predicted else WRONG
        axis.imshow(dataset.images[index].numpy(), cmap="gray")
        text = dataset.class_names[predicted]
        if true != predicted:
            text += f" (is {dataset.class_names[true]})"
        axis.set_title(text, fontsize=9, color=colour)
        for spine in axis.spines.values():
            spine.set(visible=True, color=colour, linewidth=2)
    figure.suptitle(
        f"{dataset.name}: predictions, green right, red wrong "
        f"({len(wrong):,} of all {len(indices):,} are wrong)",
        fontsize=11,
    )
    return figure


def confusion_figure(matrix: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix [K, K], coloured by the share of each true class."""
    size = len(class_names)
    figure = Figure(figsize=(max(4.0, 0.55 * size + 1.5),) * 2, layout="constrained")
    axis = figure.subplots()
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    # a power scale makes the few errors stand out from the background
    tint = (shares**0.35).numpy()
    axis.imshow(tint, cmap="Blues", vmin=0, vmax=1)
    whole = bool((matrix == matrix.round()).all())
    for row in range(size):
        for column in range(size):
            count = float(matrix[row, column])
            axis.text(
                column,
                row,
                f"{count:,.0f}" if whole else f"{count:,.1f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if tint[row, column] > 0.6 else "black",
            )
    axis.set_xticks(range(size), class_names)
    axis.set_yticks(range(size), class_names)
    accuracy = float(matrix.diag().sum() / matrix.sum())
    axis.set(xlabel="predicted", ylabel="true", title=f"Confusion matrix, accuracy {accuracy:.2%}")
    return figure


def folds_figure(accuracies: Sequence[float]) -> Figure:
    """Draw the accuracy of each fold and their mean."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    folds = range(1, len(accuracies) + 1)
    mean = sum(accuracies) / len(accuracies)
    axis.plot(folds, accuracies, "o", color="tab:blue")
    axis.axhline(mean, color="tab:gray", linestyle="--", label=f"mean {mean:.2%}")
    axis.set(xlabel="fold", ylabel="accuracy", title="Accuracy by fold")
    axis.set_xticks(list(folds))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.2%}")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def gradient_norms_figure(histories: Sequence[Sequence[Row]]) -> Figure:
    """Draw the first layer's gradient norm for every batch, one line per fold."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axis = figure.subplots()
    for history in histories:
        norms = [norm for row in history for norm in row["gradient_norms"]]
        axis.plot(norms, linewidth=0.4, alpha=0.8)
    axis.set(xlabel="batch", ylabel="gradient norm", yscale="log")
    axis.set_title("Gradient norm of the first layer", fontsize=11)
    axis.grid(alpha=0.3)
    return figure


def _image_grid(count: int, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(1.25 * columns + 0.5, 1.4 * rows + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes

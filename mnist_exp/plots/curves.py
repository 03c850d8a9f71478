"""Plots of a training over its steps: loss, accuracy, learning rate and metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from mnist_exp.plots.figures import (
    BLUE,
    GREEN,
    ORANGE,
    Axes,
    Figure,
    Line2D,
    add_fold_legend,
    colours_of,
    in_percent,
    whole_ticks,
)
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.train.state import Row

PARTS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
STYLES = {"train": "--", "validation": "-.", "test": "-"}  # where colours tell folds apart


def curves_figure(
    folds: Sequence[FoldResult], loss_note: str = "", percent: Collection[str] = ()
) -> Figure:
    """Draw loss, accuracy and learning rate over steps; several folds get a colour each.

    Training batches are a pale line where steps.jsonl holds them, whole epochs are points. Below
    there is a panel for each metric measured every epoch. ``loss_note`` and ``percent`` are as in
    `run_figures`.
    """
    metrics = _metrics_of_epochs(folds)
    figure, panels = _panels(1 + math.ceil(len(metrics) / 3), legend=len(folds) > 1)
    for axis, metric in zip(panels, ("loss", "accuracy"), strict=False):
        for fold, colour in zip(folds, _colours(folds, PARTS["train"]), strict=True):
            batches = [(row["step"], row[metric]) for row in fold.steps if metric in row]
            axis.plot(*_columns(batches), color=colour, alpha=0.35, linewidth=0.8)
        _draw_parts(axis, folds, metric, loss_note if metric == "loss" else "")
    panels[1].yaxis.set_major_formatter(in_percent)
    rates = [[(_step(row), row["lr"]) for row in fold.steps or fold.history] for fold in folds]
    if all(own == rates[0] for own in rates):  # the usual case: all folds have one schedule
        panels[2].plot(*_columns(rates[0]), color="tab:gray", marker=_marker(rates[0]))
    else:
        for own, colour in zip(rates, colours_of(len(folds)), strict=True):
            panels[2].plot(*_columns(own), color=colour, marker=_marker(own))
    over = "step" if "step" in folds[0].history[0] else "epoch"
    for axis, (name, columns) in zip(panels[3:], metrics.items(), strict=False):
        if columns == [name]:
            _draw_parts(axis, folds, name)
        else:
            _draw_values(axis, folds, columns)
    names = ("loss", "accuracy", "learning rate", *metrics)
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(panels, names, strict=False):
        axis.set(xlabel=over, ylabel=name)
        whole_ticks(axis)
        if name in percent:
            axis.yaxis.set_major_formatter(in_percent)
        axis.grid(alpha=0.3)
    if len(folds) > 1:
        add_fold_legend(figure, len(folds), Line2D([], [], color="black", label="mean"))
    title = "Training" if len(folds) == 1 else f"Training of {len(folds)} folds"
    pale = ", single batches are pale lines" if any(fold.steps for fold in folds) else ""
    top = 1 - 0.06 / figure.get_figheight()  # 0.06 inches below the edge
    figure.suptitle(f"{title}: points are epochs{pale}", fontsize=11, y=top)
    return figure


def _panels(rows: int, legend: bool) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows of three panels, with room for their labels and for one legend.

    matplotlib's own layout would take as long as drawing.
    """
    width, height, below = 3.36, 2.95, 0.6  # inches, of a panel and of what is below it
    left, beside, right, top = 0.9, 0.95, 0.12, 0.35
    bottom = below + 0.3 * legend
    whole_width = left + 3 * width + 2 * beside + right
    whole_height = top + rows * (height + below) - below + bottom
    margins = {
        "left": left / whole_width,
        "right": 1 - right / whole_width,
        "top": 1 - top / whole_height,
        "bottom": bottom / whole_height,
        "wspace": beside / width,
        "hspace": below / height,
    }
    figure = Figure(figsize=(whole_width, whole_height))
    return figure, list(figure.subplots(rows, 3, squeeze=False, gridspec_kw=margins).flat)


def _metrics_of_epochs(folds: Sequence[FoldResult]) -> dict[str, list[str]]:
    """Return the names of the values of each metric that is measured every epoch."""
    found: dict[str, list[str]] = {}
    for name in folds[0].evaluation.metrics:
        if any(f"{part}_{name}" in folds[0].history[0] for part in PARTS):
            found.setdefault(name.partition(".")[0], []).append(name)
    return found


def _draw_parts(axis: Axes, folds: Sequence[FoldResult], name: str, note: str = "") -> None:
    """Draw a number of each epoch on training, validation and test images.

    A single split has a colour for each; folds have a line style for each, and a mean in black.
    """
    for part, colour in PARTS.items():
        column = f"{part}_{name}"
        curves = [
            [(_step(row), row[column]) for row in fold.history if column in row] for fold in folds
        ]
        if not any(curves):
            continue
        label = part
        if note:
            label += f" ({note})" if part == "train" else " (plain cross-entropy)"
        if len(folds) > 1:
            for curve, own in zip(curves, colours_of(len(folds)), strict=True):
                axis.plot(*_columns(curve), color=own, linestyle=STYLES[part], linewidth=0.8)
            look: dict[str, Any] = {"color": "black", "linestyle": STYLES[part]}
            axis.plot(*_columns(_mean(curves)), marker=_marker(curves[0]), label=label, **look)
        else:
            axis.plot(*_columns(curves[0]), marker=_marker(curves[0]), color=colour, label=label)
    axis.legend(fontsize=8)


def _draw_values(axis: Axes, folds: Sequence[FoldResult], names: Sequence[str]) -> None:
    """Draw the values of a metric that has several, as means over folds: a colour each."""
    part = next(part for part in PARTS if f"{part}_{names[0]}" in folds[0].history[0])
    for name, colour in zip(names, colours_of(len(names)), strict=True):
        column = f"{part}_{name}"
        mean = _mean([[(_step(row), row.get(column)) for row in fold.history] for fold in folds])
        label = name.partition(".")[2]
        axis.plot(*_columns(mean), color=colour, linewidth=1.0, marker=".", label=label)
    title = part if len(folds) == 1 else f"{part}, mean of {len(folds)} folds"
    axis.legend(title=title, fontsize=7, title_fontsize=7, ncols=2)


def _mean(curves: Sequence[Sequence[tuple[int, float | None]]]) -> list[tuple[int, float | None]]:
    """Return the mean of curves over the epochs that all of them reach; None where none has one."""
    points: list[tuple[int, float | None]] = []
    for same in zip(*curves, strict=False):
        known = [value for _, value in same if value is not None]
        points.append((same[0][0], sum(known) / len(known) if known else None))
    return points


def _colours(folds: Sequence[FoldResult], alone: str) -> list[str]:
    return [alone] if len(folds) == 1 else colours_of(len(folds))


def _marker(points: Sequence[object]) -> str | None:
    return "." if len(points) < 30 else None


def _step(row: Row) -> int:
    """Return a row's position on the x axis; version 0.1 recorded no steps."""
    step: int = row["step"] if "step" in row else row["epoch"]
    return step


def _columns(points: Sequence[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [math.nan if y is None else y for _, y in points]

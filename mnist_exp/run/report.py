"""Final lines printed by a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_exp.run.reproduction import comparison_lines
from mnist_exp.run.text_table import shown_accuracy, table_lines
from mnist_exp.run.training_cost import cost_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted


def summary_lines(results: dict[str, Any], directory: Path) -> list[str]:
    """Summarise a finished run: accuracy, selected epoch, time, directory."""
    head = f"{results['model']}, {results['parameters']:,} parameters, {results['data']}"
    folds = results["folds"]
    if len(folds) > 1:
        lines = [head, *_fold_table(results)]
    else:
        lines = [
            f"{head}: test accuracy {shown_accuracy(folds[0]['accuracy'])}, "
            f"test loss {folds[0]['loss']:.4f} ({results['selection_rule']}: "
            f"epoch {folds[0]['selected_epoch']})",
            "accuracy by class: "
            + " ".join(
                f"{name}:" + ("-" if accuracy is None else f"{accuracy:.1%}")
                for name, accuracy in zip(
                    results["class_names"], results["per_class_accuracy"], strict=True
                )
            ),
        ]
    lines += [
        *metric_lines(results),
        *cost_lines(results),
        *_stopped(folds),
        _most_confused(results),
        f"{results['wall_seconds']:.1f} s without start-up, "
        f"{results['samples_per_second']:,.0f} samples/s in training, "
        f"{results['precision']}, {results['device']}, "
        f"{counted(results['threads'], 'thread')}, seed {results['seed']}",
        *([f"report: {page}"] if (page := directory / "report.html").is_file() else []),
        f"{_written(directory)}: {directory}",
        *(comparison_lines(results["reproduction"]) if "reproduction" in results else []),
    ]
    return [printable(line) for line in lines]


def _written(directory: Path) -> str:
    """Return what a run's directory holds, in words."""
    drawn = (directory / "plots").is_dir()
    return "results, checkpoints and plots" if drawn else "results and checkpoints"


def _fold_table(results: dict[str, Any]) -> list[str]:
    folds, accuracy = results["folds"], results["accuracy"]
    rows = [
        (
            str(row["fold"]),
            shown_accuracy(row["accuracy"]),
            f"{row['loss']:.4f}",
            str(row["selected_epoch"]),
            f"{row['wall_seconds']:.1f}",
        )
        for row in folds
    ]
    return [
        *table_lines([("fold", "accuracy", "loss", "epoch", "seconds"), *rows], str.rjust),
        f"accuracy {shown_accuracy(accuracy['mean'], accuracy['std'])} (mean +- sample std of "
        f"{len(folds)} folds; {results['selection_rule']})",
    ]


def metric_lines(results: dict[str, Any]) -> list[str]:
    """Return a line with the metrics of one number, and one for each metric of several."""
    lines: dict[str, list[str]] = {}
    for name, value in results.get("metrics", {}).items():
        metric, dot, key = name.partition(".")
        group = metric if dot else "metrics"
        separator = ":" if dot else " "
        lines.setdefault(group, []).append(f"{key or metric}{separator}{shown_metric(value)}")
    return [
        f"{group}: {('  ' if group == 'metrics' else ' ').join(cells)}"
        for group, cells in lines.items()
    ]


def shown_metric(found: Mapping[str, Any]) -> str:
    """Format the mean and standard deviation of a metric over folds."""
    if found["mean"] is None:
        return "-"
    if found.get("percent"):
        return shown_accuracy(found["mean"], found["std"])
    return f"{found['mean']:.4g}" + ("" if found["std"] is None else f" +- {found['std']:.2g}")


def _stopped(folds: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in folds:
        if (reason := row.get("stopped")) is not None:
            fold = f"fold {row['fold']}: " if len(folds) > 1 else ""
            lines.append(f"{fold}stopped after {counted(len(row['epochs']), 'epoch')}: {reason}")
    return lines


def _most_confused(results: dict[str, Any]) -> str:
    """Name the commonest mistakes, counted over the test images of all folds."""
    names, mean, folds = results["class_names"], results["confusion_matrix"], results["folds"]
    cells = [
        (mean[true][predicted] * len(folds), names[true], names[predicted])
        for true in range(len(names))
        for predicted in range(len(names))
        if true != predicted and mean[true][predicted] > 0
    ]
    worst = sorted(cells, reverse=True)[:3]
    if not worst:
        return "no test image is misclassified"
    mistakes = [
        f"{true} predicted as {predicted}, {counted(count, 'time')}"
        for count, true, predicted in worst
    ]
    of_all = f" (in all {len(folds)} folds)" if len(folds) > 1 else ""
    return f"most confused{of_all}: {'; '.join(mistakes)}"

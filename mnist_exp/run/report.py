"""The last lines a run prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnist_exp.run.reproduction import comparison_lines
from mnist_exp.terminal import printable


def summary_lines(results: dict[str, Any], directory: Path) -> list[str]:
    """Say a finished run in a few lines: accuracy, how it was got, time, and where it lies."""
    head = f"{results['model']}, {results['parameters']:,} parameters, {results['data']}"
    if "folds" in results:
        lines = [head, *_fold_table(results)]
    else:
        lines = [
            f"{head}: test accuracy {results['test_accuracy']:.2%}, "
            f"test loss {results['test_loss']:.4f} ({results['selection_rule']}: "
            f"epoch {results['selected_epoch']})",
            "accuracy by class: "
            + " ".join(
                f"{name}:" + ("-" if accuracy is None else f"{accuracy:.1%}")
                for name, accuracy in zip(
                    results["class_names"], results["per_class_accuracy"], strict=True
                )
            ),
        ]
    lines += [
        _most_confused(results),
        f"{results['wall_seconds']:.1f} s in all, {results['samples_per_second']:,.0f} samples/s "
        f"in training, {results['precision']}, {results['device']}, "
        f"{results['threads']} thread(s), seed {results['seed']}",
        f"results, checkpoints and plots: {directory}",
        *(comparison_lines(results["reproduction"]) if "reproduction" in results else []),
    ]
    return [printable(line) for line in lines]


def _fold_table(results: dict[str, Any]) -> list[str]:
    rows = ["fold  accuracy    loss  epoch       s"]
    rows += [
        f"{row['fold']:>4}  {row['accuracy']:>8.2%}  {row['loss']:.4f}  "
        f"{row['selected_epoch']:>5}  {row['wall_seconds']:>6.1f}"
        for row in results["folds"]
    ]
    spread = results["std_accuracy"]
    return [
        *rows,
        f"accuracy {results['mean_accuracy']:.2%}"
        + (f" +- {spread:.2%}" if spread is not None else "")
        + f" (mean +- sample std of {len(results['folds'])} folds; {results['selection_rule']})",
    ]


def _most_confused(results: dict[str, Any]) -> str:
    names, matrix = results["class_names"], results["confusion_matrix"]
    cells = [
        (matrix[true][predicted], names[true], names[predicted])
        for true in range(len(names))
        for predicted in range(len(names))
        if true != predicted and matrix[true][predicted] > 0
    ]
    worst = sorted(cells, reverse=True)[:3]
    if not worst:
        return "no image is mistaken"
    return "most confused: " + ", ".join(
        f"{true} for {predicted} ({count:.4g} times)" for count, true, predicted in worst
    )

"""Compare a run with its reproduction: results, data, versions and hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.config_differences import differences, flat
from mnist_exp.run.results import read_results

# what a result depends on besides the configuration, with the words for messages
ENVIRONMENT = {
    "data_sha256": "data",
    "weights_from.sha256": "pretrained weights",
    "splits_sha256": "split into training and test images",
    "versions": "version",
    "device": "device",
    "cpu": "processor",
    "gpu": "GPU",
    "precision": "precision",
    "float32_products": "library of float32 products",
    "kernels": "training-kernel build",
    "backpropagation": "backpropagation",
    "threads": "threads",
    "git_commit": "git commit",
}
RESULT = ("weights_sha256", "accuracy", "loss", "confusion_matrix", "metrics")  # of each fold


def environment_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each difference in data, versions or hardware between two results."""
    # older versions recorded fewer keys; a run has either "cpu" or "gpu"
    keys = [key for key in ENVIRONMENT if key in before or key in ("cpu", "gpu")]
    one, other = ({key: r.get(key) for key in keys} for r in (before, after))
    of_weights = "weights_from.sha256"
    one[of_weights], other[of_weights] = (flat(r).get(of_weights) for r in (before, after))
    lines = []
    for key, values in differences(one, other).items():
        group, _, name = (key, "", "") if key in ENVIRONMENT else key.partition(".")
        was, now = (_short(value) for value in values)
        lines.append(f"{ENVIRONMENT[group]} {name}".strip() + f" was {was} and is {now}")
    return lines


def result_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each difference in weights, accuracy or loss, compared exactly."""
    was_folds, folds = before["folds"], after["folds"]
    if len(was_folds) != len(folds):
        return [f"number of folds was {len(was_folds)} and is {len(folds)}"]
    lines = []
    for number, (one, other) in enumerate(zip(was_folds, folds, strict=True), start=1):
        where = f"fold {number}: " if len(folds) > 1 else ""
        for key in RESULT:
            if one.get(key) != other.get(key):
                was, now = _short(one.get(key)), _short(other.get(key))
                lines.append(f"{where}{key} was {was} and is {now}")
    return lines


def compare(reference: str, after: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the results of the run in ``reference`` with those of its reproduction.

    Returns
    -------
    dict
        ``reference``, ``identical``, and lists of differences: ``result``, ``environment``.

    Raises
    ------
    UserError
        If the reference has no readable results.
    """
    before = read_results(Path(reference))
    if before is None:
        raise UserError(f"reproduce={reference}: its results.json was deleted meanwhile.")
    result = result_differences(before, after)
    return {
        "reference": reference,
        "identical": not result,
        "result": result,
        "environment": environment_differences(before, after),
    }


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Format a comparison as a few lines."""
    circumstances = [f"  {sentence}" for sentence in comparison["environment"]]
    if comparison["identical"]:
        lines = [f"identical to {comparison['reference']}: weights, accuracies, losses, bit by bit"]
        return lines + (["although these changed:", *circumstances] if circumstances else [])
    return [
        f"differs from {comparison['reference']}:",
        *(f"  {sentence}" for sentence in comparison["result"]),
        *(
            ["circumstances:", *circumstances]
            if circumstances
            else ["on the same machine and data"]
        ),
    ]


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:  # a SHA-256
        return f"{value[:12]}..."
    return "another one" if isinstance(value, list | dict) else str(value)

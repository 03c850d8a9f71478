"""Contents of results.json for a run."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mnist_exp.cpu import float32_matmul as float32_products
from mnist_exp.cpu import ops
from mnist_exp.cv import Split
from mnist_exp.errors import UserError
from mnist_exp.experiment.fold import Fold, by_validation
from mnist_exp.run.directory import RunDirectory
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.over_folds import class_accuracies, mean_and_std, metrics_over_folds
from mnist_exp.run.provenance import device_name, git_commit, versions
from mnist_exp.run.saved_config import hash_config
from mnist_exp.run.training_cost import training_cost
from mnist_exp.train.backprop.choose import description as backpropagation
from mnist_exp.train.metrics import Metric, in_percent


def facts(first: Fold, run: RunDirectory, rule: str) -> dict[str, Any]:
    """Return the entries of results.json known before training: enough to repeat the run."""
    config, dataset, device = first.parts.config, first.parts.dataset, first.parts.device
    recipe = first.parts.recipe
    return {
        "model": config.model.name,
        "data": dataset.name,
        "data_sha256": run.data_sha256,
        "splits_sha256": run.splits_sha256,
        "class_names": list(dataset.class_names),
        # what stands for each class in the data's files, where that is not its index
        **({} if dataset.values is None else {"label_values": list(dataset.values)}),
        "image_shape": list(dataset.image_shape),
        "seed": config.seed,
        "config_hash": hash_config(run.config),
        "selection_rule": rule,
        "deterministic": config.deterministic,
        "precision": recipe.precision,
        "float32_products": float32_products.library(device),
        "kernels": ops.description(device),
        "backpropagation": backpropagation(first.state.model, recipe.precision, recipe.loss),
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "device": device.type,
        "cpu" if device.type == "cpu" else "gpu": device_name(device),
        "versions": dict(versions()),
        "git_commit": git_commit(Path(__file__).parent),
    }


def selection_rule(config: DictConfig, splits: Sequence[Split]) -> str:
    """Describe how the reported epoch is selected.

    Raises
    ------
    UserError
        If ``training.selection`` needs validation images and the cv scheme has none.
    """
    if config.training.selection == "validation" and splits[0].validation is None:
        raise UserError(
            "training.selection=validation: this cv scheme sets no validation images aside "
            "(the held-out fold is reported, so it must not select the epoch). Use "
            "training.selection=last, or cv=holdout."
        )
    if by_validation(config, splits[0]):
        return "best validation accuracy, the earlier epoch if equal"
    return "last epoch"


def summary(folds: Sequence[FoldResult], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return a run's numbers, per fold and over folds; ``metrics`` are those measured.

    `mnist_exp.run.results` says what they mean, `mnist_exp.run.formats` lists every entry.
    """
    epochs = [row for fold in folds for row in fold.history]
    matrices = torch.stack([fold.evaluation.confusion_matrix for fold in folds])
    # a single split keeps integer counts
    matrix = (matrices[0] if len(folds) == 1 else matrices.double().mean(0)).tolist()
    found = metrics_over_folds([fold.evaluation.metrics for fold in folds], in_percent(metrics))
    cost = metrics_over_folds([training_cost(fold.history) for fold in folds])
    return {
        "parameters": folds[0].parameters,
        "samples_per_second": statistics.median(row["samples_per_second"] for row in epochs),
        "accuracy": mean_and_std([fold.evaluation.accuracy for fold in folds]),
        "loss": mean_and_std([fold.evaluation.loss for fold in folds]),
        **({"metrics": found} if found else {}),
        **({"cost": cost} if cost else {}),
        "per_class_accuracy": class_accuracies(matrix),
        "confusion_matrix": matrix,
        "folds": [fold.row() for fold in folds],
    }

"""A whole run: data in, folds trained, results and pictures out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from omegaconf import DictConfig, OmegaConf

from mnist_exp import build, plots
from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.fold import FoldResult, by_validation, train_fold
from mnist_exp.hardware import device_name, versions
from mnist_exp.run.directory import RunDirectory, git_commit, hash_config


def run_experiment(config: DictConfig, directory: Path) -> dict[str, Any]:
    """Train as the configuration says and write everything to ``directory``.

    Parameters
    ----------
    config : DictConfig
        Composed and checked by ``mnist_exp.schema.check``.
    directory : Path
        The run directory.

    Returns
    -------
    dict
        The content of results.json.

    Raises
    ------
    UserError
        If a setting cannot work, in most cases before anything is written.
    """
    started = time.perf_counter()
    device = build.prepare_torch(config)
    dataset = build.build_dataset(config)
    splits = build.build_splits(config, dataset)
    rule = selection_rule(config, splits)
    build.build_state(config, dataset.num_classes, len(splits[0].train), device, config.seed)
    config_hash = hash_config(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    results: dict[str, Any] = {
        "status": "running",
        "model": config.model.name,
        "data": dataset.name,
        "class_names": list(dataset.class_names),
        "seed": config.seed,
        "config_hash": config_hash,
        "selection_rule": rule,
        "precision": config.training.precision,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "cpu" if device.type == "cpu" else "gpu": device_name(device),
        "versions": versions(),
        "git_commit": git_commit(Path(__file__).parent),
    }
    run = RunDirectory(directory)
    run.write_results(results)
    folds = train_folds(config, dataset, splits, directory, config_hash)
    results |= summary(folds)
    results |= {"status": "completed", "wall_seconds": time.perf_counter() - started}
    run.write_results(results)
    if config.plots.enabled:
        plots.draw_run(
            directory / "plots",
            dataset,
            splits,
            folds,
            num_samples=config.plots.num_samples,
            dpi=config.plots.dpi,
        )
    return results


def selection_rule(config: DictConfig, splits: Sequence[Split]) -> str:
    """Say how the reported epoch is chosen.

    Raises
    ------
    UserError
        If it is to be chosen by validation images that the scheme does not have.
    """
    if config.training.selection == "validation" and splits[0].validation is None:
        raise UserError(
            "training.selection=validation: this cv scheme sets no validation images aside "
            "(a held-out fold is what is reported, so it must not choose). Use "
            "training.selection=last, or cv=holdout."
        )
    if by_validation(config, splits[0]):
        return "best validation accuracy, the earlier epoch if equal"
    return "last epoch"


def train_folds(
    config: DictConfig,
    dataset: Dataset,
    splits: Sequence[Split],
    directory: Path,
    config_hash: str,
) -> list[FoldResult]:
    """Train every split, ``cv.n_jobs`` at a time, and return the results in their order."""
    jobs = min(config.cv.get("n_jobs") or joblib.cpu_count(), len(splits))
    if jobs == 1:
        return [train_fold(config, dataset, split, directory, config_hash) for split in splits]
    if config.threads is None:
        config = config.copy()
        config.threads = max(1, joblib.cpu_count(only_physical_cores=True) // jobs)
    tasks = (
        joblib.delayed(train_fold)(config, dataset, split, directory, config_hash)
        for split in splits
    )
    return list(joblib.Parallel(n_jobs=jobs, backend="loky")(tasks))


def summary(folds: Sequence[FoldResult]) -> dict[str, Any]:
    """Return the numbers of a run: of the only split, or of each fold and over folds.

    ``std_accuracy`` is the sample standard deviation (n - 1 in the denominator);
    ``confusion_matrix`` is the mean over folds.
    """
    epochs = [row for fold in folds for row in fold.history]
    numbers: dict[str, Any] = {
        "parameters": folds[0].parameters,
        "samples_per_second": statistics.median(row["samples_per_second"] for row in epochs),
    }
    rows = [fold.row() for fold in folds]
    if folds[0].fold is None:
        (row,) = rows
        return numbers | {
            "selected_epoch": row["selected_epoch"],
            "test_accuracy": row["accuracy"],
            "test_loss": row["loss"],
            "per_class_accuracy": row["per_class_accuracy"],
            "confusion_matrix": row["confusion_matrix"],
            "epochs": row["epochs"],
        }
    accuracies = [fold.evaluation.accuracy for fold in folds]
    matrices = torch.stack([fold.evaluation.confusion_matrix for fold in folds])
    return numbers | {
        "mean_accuracy": statistics.mean(accuracies),
        "std_accuracy": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "confusion_matrix": matrices.double().mean(0).tolist(),
        "folds": rows,
    }

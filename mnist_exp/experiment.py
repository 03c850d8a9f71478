"""A whole run: data in, folds trained, results and pictures out."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from mnist_exp import build, float32_products, kernels, plots
from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.fold import FoldResult, by_validation, open_directory, part_of_run, train_fold
from mnist_exp.fold_processes import train_in_processes, wait_for_orphans
from mnist_exp.gradient_collection import GradientCollection
from mnist_exp.gradients.plots import draw_gradients
from mnist_exp.hardware import device_name, git_commit, versions
from mnist_exp.run.directory import RunDirectory, check_settings
from mnist_exp.run.interruption import StopSignals
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.outcome import recorded_outcome
from mnist_exp.run.reproduction import compare, environment_differences
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import hash_config, save_config, training_config
from mnist_exp.targets import call_target, find_target

ALL_THREADS = torch.get_num_threads()  # torch's choice; a job of a sweep may change it


def run_experiment(
    config: DictConfig,
    directory: Path,
    signals: StopSignals | None = None,
    lock: DirectoryLock | None = None,
    side_by_side: bool = False,
) -> dict[str, Any]:
    """Train as the configuration says and write everything to ``directory``.

    Goes on from what an interrupted run with the same configuration left in ``directory``.

    Parameters
    ----------
    config : DictConfig
        Composed and checked by ``mnist_exp.schema.check``.
    directory : Path
        The run directory.
    signals : StopSignals or None
        Asked after every batch whether to stop.
    lock : DirectoryLock or None
        Of the directory, held by the caller.
    side_by_side : bool
        Whether folds train side by side where ``cv.n_jobs`` is null. Their processes import the
        script that started Python: it must guard its work by ``if __name__ == "__main__"``.

    Returns
    -------
    dict
        The content of results.json.

    Raises
    ------
    UserError
        If a setting cannot work, in most cases before anything is written, or the machine
        fails (disk full, out of memory).
    Interrupted
        If a signal asked to stop.
    """
    signals = signals or StopSignals()
    device = build.prepare_torch(config)
    check_settings(directory, training_config(config))
    dataset = build.build_dataset(config)
    splits = build.build_splits(config, dataset)
    run = open_directory(config, directory, dataset, splits)
    rule = selection_rule(config, splits)
    try_parts(config, dataset, splits, run, device)
    room = room_for_folds(config, device) if side_by_side else 1
    jobs = min(config.cv.get("n_jobs") or room, len(splits))
    # a fold gets one thread however many folds train side by side: sums depend on the number
    torch.set_num_threads(config.threads or (ALL_THREADS if len(splits) == 1 else 1))
    if (slower := kernels.absence(device)) is not None:
        print(f"note: {slower}", file=sys.stderr)
    results = facts(config, dataset, run, rule, device)
    results["wall_seconds"] = go_on(run, splits, results) / jobs
    save_config(directory, config)
    with recorded_outcome(directory, results, lock):
        if jobs > 1:
            train_in_processes(config, directory, splits, jobs, signals)
        folds = [train_fold(config, dataset, split, run, signals) for split in splits]
        results |= summary(folds)
        if config.reproduce is not None:
            results["reproduction"] = compare(config.reproduce, results)
        if config.plots.enabled:
            plots.draw_run(
                directory / "plots",
                dataset,
                splits,
                folds,
                augmented_examples(config, dataset, splits[0].train),
                num_samples=config.plots.num_samples,
                dpi=config.plots.dpi,
            )
            draw_collected_gradients(config, directory, splits, dataset)
    return results


def room_for_folds(config: DictConfig, device: torch.device) -> int:
    """Return how many folds the CPU or GPU has room for at a time."""
    return max(1, ALL_THREADS // (config.threads or 1)) if device.type == "cpu" else 1


def try_parts(
    config: DictConfig,
    dataset: Dataset,
    splits: Sequence[Split],
    run: RunDirectory,
    device: torch.device,
) -> None:
    """Build once what every fold needs, so that a wrong setting leaves nothing behind.

    Raises
    ------
    UserError
        If a part refuses its settings, or what is to be collected does not fit on the disk.
    """
    images = build.build_images(config, dataset, device)
    recipe = build.build_recipe(config, device)
    indices = splits[0].train
    state = build.build_state(config, dataset.num_classes, len(indices), device, config.seed)
    find_target(config, "tracker")
    collector = call_target(config, "gradients")
    if collector is not None and not (run.path / "checkpoints").exists():
        collection = GradientCollection(collector, images, indices, recipe, run.path)
        collection.check_space(state.model, len(splits))


def augmented_examples(config: DictConfig, dataset: Dataset, indices: Tensor) -> Tensor | None:
    """Return inputs [7, 8, 28, 28], each row an image as it is and seven draws; None without."""
    cpu = torch.device("cpu")
    augmentation = build.build_recipe(config, cpu).augmentation
    if augmentation is None:
        return None
    pixels = dataset.images[indices[:7]]
    images = build.build_images(config, dataset, cpu)
    generator = torch.Generator(cpu).manual_seed(config.seed)
    draws = images.inputs(pixels.repeat(7, 1, 1), augmentation, generator).view(7, -1, 28, 28)
    return torch.cat([images.inputs(pixels).view(1, -1, 28, 28), draws]).transpose(0, 1)


def draw_collected_gradients(
    config: DictConfig, directory: Path, splits: Sequence[Split], dataset: Dataset
) -> None:
    """Draw the per-sample gradients, if there are any, of the only split or of the first fold."""
    if config.gradients.get("_target_") is None:
        return
    part = part_of_run(directory, splits[0].fold)
    draw_gradients(
        part / config.gradients.directory,
        dataset.images,
        directory / "plots",
        class_names=dataset.class_names,
        dpi=config.plots.dpi,
    )


def facts(
    config: DictConfig, dataset: Dataset, run: RunDirectory, rule: str, device: torch.device
) -> dict[str, Any]:
    """Return what results.json says of a run before it begins, enough to run it again."""
    return {
        "model": config.model.name,
        "data": dataset.name,
        "data_sha256": run.data_sha256,
        "splits_sha256": run.splits_sha256,
        "class_names": list(dataset.class_names),
        "seed": config.seed,
        "config_hash": hash_config(run.config),
        "selection_rule": rule,
        "deterministic": config.deterministic,
        "precision": build.precision_on(device, config),
        "float32_products": float32_products.library(device),
        "kernels": kernels.description(device),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "cpu" if device.type == "cpu" else "gpu": device_name(device),
        "versions": versions(),
        "git_commit": git_commit(Path(__file__).parent),
    }


def go_on(run: RunDirectory, splits: Sequence[Split], facts: dict[str, Any]) -> float:
    """Prepare a directory in which an earlier run may have ended, and say what is different now.

    Returns
    -------
    float
        Seconds for which its folds were trained, one after the other.
    """
    folds = [split.fold for split in splits]
    wait_for_orphans([run.checkpoints(fold) for fold in folds])
    seconds = run.restore(folds)
    try:
        before = read_results(run.path)
    except UserError as error:
        print(f"warning: {error} It is written anew.", file=sys.stderr)
        before = None
    if before is None:
        return seconds or 0.0
    if seconds is None:
        print("there is no checkpoint to go on from: training starts from the beginning")
    for line in environment_differences(before, facts):
        print(f"warning: since this run was started, {line}; bits may differ", file=sys.stderr)
    return seconds or 0.0


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
            "weights_sha256": row["weights_sha256"],
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

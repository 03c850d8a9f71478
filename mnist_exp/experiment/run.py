"""A whole run: data in, folds trained, results and pictures out."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from mnist_exp.callbacks.gradient_norm import first_weight
from mnist_exp.cpu import ops
from mnist_exp.cpu.threads import overload
from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.data.input_scale import scale_warning
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.fold import open_directory, train_fold
from mnist_exp.experiment.fold_processes import train_in_processes, wait_for_orphans
from mnist_exp.experiment.ignored_settings import Facts, ignored_settings
from mnist_exp.experiment.instantiate import call_target, find_target
from mnist_exp.experiment.summary import facts, selection_rule, summary
from mnist_exp.gradients.callback import GradientCollection
from mnist_exp.interruption import StopSignals
from mnist_exp.plots import run as plots
from mnist_exp.plots.gradients import draw_gradients
from mnist_exp.run.directory import RunDirectory, check_settings, part_of_run
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.outcome import recorded_outcome
from mnist_exp.run.reproduction import compare, environment_differences
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import save_config, training_config
from mnist_exp.terminal import printable, printable_lines

SCALE_SAMPLE = 1000  # training images on which the scale of network inputs is judged
ALL_THREADS = torch.get_num_threads()  # torch's choice; a job of a sweep may change it


def run_experiment(
    config: DictConfig,
    directory: Path,
    signals: StopSignals | None = None,
    lock: DirectoryLock | None = None,
    side_by_side: bool = False,
    said: Collection[str] = (),
) -> dict[str, Any]:
    """Train as the configuration says and write everything to ``directory``.

    Goes on from what an interrupted run with the same configuration left in ``directory``. The
    process is the run's: torch's global generators are seeded, its number of threads and its
    deterministic mode are set, and all stay so.

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
    said : collection of str
        Keys that the user gave; those among them that have no effect are warned of.

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
    with signals.at_once():  # it may download, and there is nothing to save yet
        dataset = build.build_dataset(config)
        splits = build.build_splits(config, dataset)
        run = open_directory(config, directory, dataset, splits)
    rule = selection_rule(config, splits)
    for line in try_parts(config, dataset, splits, run, device, said):
        print(f"warning: {line}", file=sys.stderr)
    room = room_for_folds(config, device) if side_by_side else 1
    jobs = min(config.cv.get("n_jobs") or room, len(splits))
    # a fold gets one thread however many folds train side by side: sums depend on the number
    torch.set_num_threads(config.threads or (ALL_THREADS if len(splits) == 1 else 1))
    warn_of_overload(config, jobs)
    if (slower := ops.absence(device)) is not None:
        print(f"note: {slower}", file=sys.stderr)
    results = facts(config, dataset, run, rule, device)
    with signals.at_once():  # it may wait for the processes of a killed run
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
            with signals.at_once():  # the run is trained, and draws its pictures when it goes on
                draw(config, directory, dataset, splits, folds)
        signals.check()
    return results


def room_for_folds(config: DictConfig, device: torch.device) -> int:
    """Return how many folds the CPU or GPU has room for at a time."""
    return max(1, ALL_THREADS // (config.threads or 1)) if device.type == "cpu" else 1


def warn_of_overload(config: DictConfig, jobs: int) -> None:
    """Say on standard error if there are far more CPU threads than cores."""
    given = {"threads": config.threads, "cv.n_jobs": config.cv.get("n_jobs")}
    if config.threads is None and (jobs == 1 or given["cv.n_jobs"] is None):
        given["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    sentence = overload(torch.get_num_threads(), jobs, given)
    if sentence is not None:
        print(f"warning: {sentence}.", file=sys.stderr)


def try_parts(
    config: DictConfig,
    dataset: Dataset,
    splits: Sequence[Split],
    run: RunDirectory,
    device: torch.device,
    said: Collection[str],
) -> list[str]:
    """Build once what every fold needs, so that a wrong setting leaves nothing behind.

    Returns
    -------
    list of str
        What the run will do otherwise than its settings say.

    Raises
    ------
    UserError
        If a part refuses its settings, what is to be collected does not fit on the disk, or the
        learning rates or momenta to come are out of their ranges.
    """
    images = build.build_images(config, dataset, device)
    recipe = build.build_recipe(config, device)
    indices = splits[0].train
    state = build.build_state(config, dataset.num_classes, len(indices), device, config.seed)
    find_target(config, "tracker")
    collector = call_target(config, "gradients")
    if (run.path / "checkpoints").exists():  # it goes on as it was begun
        try:
            build.check_rates(config, state.model, len(indices))
        except UserError as error:
            return [str(error)]
        return []
    facts = Facts(
        train_size=len(indices),
        test_size=len(splits[0].test),
        folds=len(splits),
        momentum=build.has_momentum(state.optimizer),
        schedule_changes=build.check_rates(config, state.model, len(indices)),
    )
    if config.training.gradient_norm or config.verbose:
        first_weight(state.model)
    if collector is not None:
        collector.check_epochs(config.training.epochs)
        collection = GradientCollection(collector, images, indices, recipe, run.path)
        collection.check_space(state.model, len(splits))
    some = images.batch(indices[:SCALE_SAMPLE].to(device))[0]
    scale = scale_warning(
        some, "data.normalization=mean_std data.mean=null data.std=null takes both from the data."
    )
    return [*ignored_settings(config, said, facts), *([scale] if scale else [])]


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


def draw(
    config: DictConfig,
    directory: Path,
    dataset: Dataset,
    splits: Sequence[Split],
    folds: Sequence[FoldResult],
) -> None:
    """Draw the run, and its per-sample gradients, if any, of the only split or the first fold."""
    plots.draw_run(
        directory / "plots",
        dataset,
        splits,
        folds,
        augmented_examples(config, dataset, splits[0].train),
        num_samples=config.plots.num_samples,
        dpi=config.plots.dpi,
    )
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
        print(f"warning: {printable_lines(error)} It is written anew.", file=sys.stderr)
        before = None
    if before is None:
        return seconds or 0.0
    if seconds is None:
        print("there is no checkpoint to go on from: training starts from the beginning")
    for line in environment_differences(before, facts):
        since = f"since this run was started, {printable(line)}"
        print(f"warning: {since}; bits may differ", file=sys.stderr)
    return seconds or 0.0

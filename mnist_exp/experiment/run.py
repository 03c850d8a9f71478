"""Run an experiment: load data, train the folds, write results and plots."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mnist_exp.callbacks.display import Terminal
from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.cpu import ops
from mnist_exp.cpu.cores import given_cores
from mnist_exp.cpu.threads import overload
from mnist_exp.data.input_scale import scale_warning
from mnist_exp.errors import UserError
from mnist_exp.experiment import optimization
from mnist_exp.experiment.dataset import orientation_warning
from mnist_exp.experiment.first_step import try_first_step
from mnist_exp.experiment.fold import Fold, finish, open_directory
from mnist_exp.experiment.fold_processes import complete_in_processes, wait_for_orphans
from mnist_exp.experiment.functions import takes_label_smoothing
from mnist_exp.experiment.ignored_settings import Facts, ignored_settings
from mnist_exp.experiment.logits import check_logits
from mnist_exp.experiment.parts import build_parts
from mnist_exp.experiment.run_report import write_report
from mnist_exp.experiment.summary import facts, selection_rule, summary
from mnist_exp.experiment.sweep_defaults import draws, keeps_predictions, reports
from mnist_exp.interruption import StopSignals
from mnist_exp.run.directory import RunDirectory, check_links, load_checkpoints
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.outcome import recorded_outcome
from mnist_exp.run.reproduction import compare, environment_differences
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import save_config, training_config
from mnist_exp.run.saved_state import check_plain
from mnist_exp.terminal import printable, printable_lines
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import state_of

SCALE_SAMPLE = 1000  # training images used to check the scale of network inputs
# torch's default, before a sweep's job changes it; less where an engine gave fewer cores
ALL_THREADS = min(torch.get_num_threads(), given_cores() or torch.get_num_threads())


def run_experiment(
    config: DictConfig,
    directory: Path,
    signals: StopSignals | None = None,
    lock: DirectoryLock | None = None,
    side_by_side: bool = False,
    said: Collection[str] = (),
    sweep_job: SweepPlace | None = None,
    callbacks: Mapping[str, Callback] | None = None,
) -> dict[str, Any]:
    """Train as configured and write everything to ``directory``.

    Resumes an interrupted run with the same configuration found in ``directory``. Torch's global
    state changes and is not restored: random generators, thread count and deterministic mode.

    Parameters
    ----------
    config : DictConfig
        Composed and checked by ``mnist_exp.schema.check``.
    directory : Path
        The run directory.
    signals : StopSignals or None
        Stop requests, checked after every batch.
    lock : DirectoryLock or None
        The directory's lock, held by the caller.
    side_by_side : bool
        Whether folds train in parallel when ``cv.n_jobs`` is null. Their processes import the main
        script, which therefore needs an ``if __name__ == "__main__"`` guard.
    said : collection of str
        Keys the user gave; a warning names those without effect.
    sweep_job : SweepPlace or None
        Place in a sweep, whose jobs print no line an epoch and, unless asked for, draw no pictures
        and keep a single checkpoint besides the best.
    callbacks : mapping or None
        Callbacks of the caller, by name; they do not travel to processes that train folds.

    Returns
    -------
    dict
        The content of results.json.

    Raises
    ------
    UserError
        If a setting cannot work (usually raised before anything is written), or the disk is full
        or memory runs out.
    Interrupted
        If a signal requested a stop.
    """
    signals = signals or StopSignals()
    with signals.at_once():  # nothing to save yet
        check_links(directory)
        wait_for_orphans(directory)
        trained = training_config(config)
        checkpoints = load_checkpoints(directory, trained)
        parts = build_parts(config, in_sweep=sweep_job is not None)  # may download the data
        parts = replace(parts, callbacks=callbacks or {})
        run = open_directory(parts, directory, trained)
    rule = selection_rule(config, parts.splits)
    # one thread per fold whatever the parallelism: sums depend on the thread count
    torch.set_num_threads(config.threads or (ALL_THREADS if len(parts.splits) == 1 else 1))
    display = Terminal(job=sweep_job)
    first = Fold(parts, parts.splits[0], run, signals, display)
    for line in check_parts(first, (directory / "checkpoints").exists(), said):
        print(f"warning: {line}", file=sys.stderr)
    room = room_for_folds(config, parts.device) if side_by_side else 1
    jobs = min(config.cv.get("n_jobs") or room, len(parts.splits))
    warn_of_overload(config, jobs)
    if (slower := ops.absence(parts.device)) is not None:
        print(f"note: {slower}", file=sys.stderr)
    results = facts(first, run, rule)
    if parts.recipe.loss is not None:
        print(f"note: backpropagation by {results['backpropagation']}", file=sys.stderr)
    if parts.pretrained is not None:
        results["weights_from"] = parts.pretrained.facts()
        if parts.pretrained.left_out:
            print(f"note: {parts.pretrained.left_out_line()}", file=sys.stderr)
    saved = run.restore(checkpoints)
    warn_of_changes(directory, results, begun=bool(saved))
    results["wall_seconds"] = sum(c["state"]["wall_seconds"] for c in saved.values()) / jobs
    save_config(directory, config)
    with recorded_outcome(directory, results, lock) as elapsed:
        folds = run_folds(first, run, saved, jobs, display)
        results |= summary(folds, first.parts.metrics)
        if config.reproduce is not None:
            results["reproduction"] = compare(config.reproduce, results)
        if draws(config, parts.in_sweep):
            from mnist_exp.experiment.pictures import draw_pictures  # loads matplotlib

            with signals.at_once():  # training is saved; a resumed run redraws
                draw_pictures(first, folds)
        if "evaluation" in config:
            from mnist_exp.experiment.device_evaluation import evaluate_run

            with signals.at_once():  # training is saved; a resumed run tests again
                evaluate_run(first.parts, directory)
        for callback in first.callbacks.values():
            callback.on_run_end(results, directory)
        if reports(config, parts.in_sweep) or keeps_predictions(config, parts.in_sweep):
            with signals.at_once():  # as above
                write_report(first, folds, {**results, "wall_seconds": elapsed()})
        signals.check()
    return results


def run_folds(
    first: Fold,
    run: RunDirectory,
    saved: Mapping[int | None, dict[str, Any]],
    jobs: int,
    display: Terminal,
) -> list[FoldResult]:
    """Train the remaining epochs of each fold in ``jobs`` processes, and test in this process.

    Parameters
    ----------
    first : Fold
        The first fold, freshly built.
    run : RunDirectory
        Where the folds' files go.
    saved : dict
        Content of each fold's newest checkpoint; folds without one are absent.
    jobs : int
        Parallel processes; with 1, this process trains.
    display : Terminal
        Where progress is shown.
    """
    parts, signals = first.parts, first.signals
    elsewhere: set[int | None] = set()
    done = {f for f, c in saved.items() if _is_done(c["state"], parts.recipe.epochs)}
    unfinished = [split for split in parts.splits if split.fold not in done]
    display.folds, display.at_once = len(unfinished), min(jobs, len(unfinished))
    if jobs > 1:
        complete_in_processes(parts, run.path, unfinished, jobs, signals, display)
        elsewhere = {split.fold for split in unfinished}
    results = []
    for split in parts.splits:
        fold = first if split is first.split else Fold(parts, split, run, signals, display)
        newest = run.newest(split.fold) if split.fold in elsewhere else saved.get(split.fold)
        results.append(finish(fold, newest))
    return results


def _is_done(saved: Mapping[str, Any], epochs: int) -> bool:
    stopped = saved.get("stopped") is not None and saved["order"] is None
    return stopped or saved["epoch"] >= epochs


def room_for_folds(config: DictConfig, device: torch.device) -> int:
    """Return how many folds to train in parallel: by CPU threads, or 1 on a GPU."""
    return max(1, ALL_THREADS // (config.threads or 1)) if device.type == "cpu" else 1


def warn_of_overload(config: DictConfig, jobs: int) -> None:
    """Warn on stderr if there are far more CPU threads than cores."""
    given = {"threads": config.threads, "cv.n_jobs": config.cv.get("n_jobs")}
    if config.threads is None and (jobs == 1 or given["cv.n_jobs"] is None):
        given["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    sentence = overload(torch.get_num_threads(), jobs, given)
    if sentence is not None:
        print(f"warning: {sentence}.", file=sys.stderr)


def check_parts(first: Fold, begun: bool, said: Collection[str]) -> list[str]:
    """Check the first fold's settings before anything is written.

    Returns
    -------
    list of str
        Warnings about settings that have no effect or may not work as intended.

    Raises
    ------
    UserError
        If a learning rate or momentum leaves its range, the network gives no logit a class, the
        first step fails, or a callback cannot work. With ``begun``, the first is only a warning and
        the others are not checked.
    """
    parts, model, indices = first.parts, first.state.model, first.train_indices
    config = parts.config
    if first.state.scheduler is not None:
        check_plain(state_of(first.state.scheduler), "scheduler.state_dict()")
    # forked: training continues the random stream that drew the model's weights
    with torch.random.fork_rng([parts.device] if parts.device.type == "cuda" else []):
        try:
            schedule_changes = optimization.check_rates(config, model, len(indices))
        except UserError as error:
            if begun:
                return [str(error)]
            raise
        if begun:
            return []
        two = parts.images.batch(indices[:2])[0]
        check_logits(config, model, two, parts.dataset.num_classes)
        try_first_step(first)
        warnings = [
            warning
            for callback in first.callbacks.values()
            for warning in callback.check(first.state, first.training, len(parts.splits))
        ]
        if parts.metrics:
            first.try_metrics()
        if "evaluation" in config:
            from mnist_exp.experiment.device_evaluation import build_evaluation, held_by_devices

            held_by_devices(build_evaluation(config), model, first.state.constraint)
        known = Facts(
            train_size=len(indices),
            test_size=len(first.split.test),
            folds=len(parts.splits),
            momentum=optimization.has_momentum(first.state.optimizer),
            schedule_changes=schedule_changes,
            smoothing=takes_label_smoothing(config),
            in_sweep=parts.in_sweep,
        )
        some = parts.images.batch(indices[:SCALE_SAMPLE])[0]
    scale = scale_warning(
        some, "data.normalization=mean_std data.mean=null data.std=null takes both from the data."
    )
    hints = filter(None, (scale, orientation_warning(config, parts.dataset)))
    return [*warnings, *ignored_settings(config, said, known), *hints]


def warn_of_changes(directory: Path, facts: dict[str, Any], begun: bool) -> None:
    """Warn about changes in data, versions or hardware since an earlier run in the directory.

    Parameters
    ----------
    directory : Path
        The run directory.
    facts : dict
        Entries of results.json for the run about to start.
    begun : bool
        Whether a checkpoint exists to resume from.
    """
    try:
        before = read_results(directory)
    except UserError as error:
        print(f"warning: {printable_lines(error)} It will be overwritten.", file=sys.stderr)
        return
    if before is None:
        return
    if not begun:
        print("no checkpoint to resume from: training starts from the beginning")
    for line in environment_differences(before, facts):
        since = f"since this run was started, {printable(line)}"
        print(f"warning: {since}; bits may differ", file=sys.stderr)

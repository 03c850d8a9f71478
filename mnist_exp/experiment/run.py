"""Run an experiment: load data, train the folds, write results and plots."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mnist_exp.callbacks.display import Terminal
from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.cpu.cores import given_cores
from mnist_exp.experiment.checks import check_parts
from mnist_exp.experiment.fold import Fold, finish, open_directory
from mnist_exp.experiment.fold_processes import complete_in_processes, wait_for_orphans
from mnist_exp.experiment.notices import note_what_trains, warn_of_changes, warn_of_overload
from mnist_exp.experiment.parts import build_parts
from mnist_exp.experiment.run_report import write_report
from mnist_exp.experiment.summary import facts, selection_rule, summary
from mnist_exp.experiment.sweep_defaults import draws, keeps_predictions, reports
from mnist_exp.interruption import StopSignals
from mnist_exp.run.directory import RunDirectory, check_links, load_checkpoints
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.outcome import recorded_outcome
from mnist_exp.run.reproduction import compare
from mnist_exp.run.saved_config import save_config, training_config
from mnist_exp.train.callback import Callback

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
    results = facts(first, run, rule)
    note_what_trains(parts, results["backpropagation"])
    if parts.pretrained is not None:
        results["weights_from"] = parts.pretrained.facts()
    saved = run.restore(checkpoints)
    warn_of_changes(directory, results, begun=bool(saved))
    results["wall_seconds"] = sum(c["state"]["wall_seconds"] for c in saved.values()) / jobs
    save_config(directory, config)
    with recorded_outcome(directory, results, lock) as elapsed:
        folds = run_folds(first, run, saved, jobs, display)
        results |= summary(folds, parts.metrics)
        if config.reproduce is not None:
            results["reproduction"] = compare(config.reproduce, results)
        end_run(first, folds, results, elapsed)
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


def end_run(
    first: Fold,
    folds: Sequence[FoldResult],
    results: dict[str, Any],
    elapsed: Callable[[], float],
) -> None:
    """Draw the pictures, test on devices, tell callbacks and write the report of trained folds.

    Parameters
    ----------
    first : Fold
        The first fold.
    folds : sequence of FoldResult
        All of them.
    results : dict
        Content of results.json; callbacks may add to it.
    elapsed : callable
        Returns the run's seconds so far.
    """
    parts, directory, at_once = first.parts, first.run.path, first.signals.at_once
    config = parts.config
    # a signal may end what follows, which a resumed run does again: training is saved
    if draws(config, parts.in_sweep):
        from mnist_exp.experiment.pictures import draw_pictures  # loads matplotlib

        with at_once():
            draw_pictures(first, folds)
    if "evaluation" in config:
        from mnist_exp.experiment.device_evaluation import evaluate_run

        with at_once():
            evaluate_run(parts, directory)
    for callback in first.callbacks.values():
        callback.on_run_end(results, directory)
    if reports(config, parts.in_sweep) or keeps_predictions(config, parts.in_sweep):
        with at_once():
            write_report(first, folds, {**results, "wall_seconds": elapsed()})


def room_for_folds(config: DictConfig, device: torch.device) -> int:
    """Return how many folds to train in parallel: by CPU threads, or 1 on a GPU."""
    return max(1, ALL_THREADS // (config.threads or 1)) if device.type == "cpu" else 1

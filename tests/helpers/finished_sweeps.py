"""Directories of runs and sweeps as a training leaves them, written in milliseconds each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mnist_exp.run.results import write_results
from mnist_exp.run.sweep_record import AskedJob, JobRecord, SweepRecord, write_job, write_sweep

CLASSES = ["0", "1", "2"]


def results_of(
    accuracies: Sequence[float], seconds: float = 2.0, epochs: int = 3, **facts: Any
) -> dict[str, Any]:
    """Return the results of a completed run with these test accuracies, one a fold.

    One accuracy is a single split with validation images, whose accuracy is 0.01 higher.
    """
    folds = [_fold(number, accuracy, epochs, len(accuracies) == 1, seconds)
             for number, accuracy in enumerate(accuracies, 1)]  # fmt: skip
    over = {
        name: {
            "mean": float(np.mean([fold[name] for fold in folds])),
            "std": float(np.std([fold[name] for fold in folds], ddof=1)) if folds[1:] else None,
            "n": len(folds),
        }
        for name in ("accuracy", "loss")
    }
    shares = [over["accuracy"]["mean"]] * len(CLASSES)
    return {
        "status": "completed",
        "model": "mlp",
        "data": "mnist",
        "class_names": CLASSES,
        "seed": 0,
        "config_hash": "h",
        "selection_rule": "best validation accuracy",
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "host": "vm",
        "wall_seconds": seconds,
        "parameters": 407050,
        "samples_per_second": 10000.0,
        **over,
        "per_class_accuracy": shares,
        "confusion_matrix": [[10.0] * len(CLASSES)] * len(CLASSES),
        "folds": folds,
        **facts,
    }


def _fold(
    number: int, accuracy: float, epochs: int, validates: bool, seconds: float
) -> dict[str, Any]:
    rows = []
    for epoch in range(1, epochs + 1):
        reached = accuracy * (1 - 0.3 / epoch + 0.3 / epochs)
        row = {"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": reached}
        if validates:
            row |= {"validation_loss": 2.1 / epoch, "validation_accuracy": min(reached + 0.01, 1.0)}
        rows.append(row)
    return {
        "fold": number,
        "accuracy": accuracy,
        "loss": 2 / epochs,
        "selected_epoch": epochs,
        "wall_seconds": seconds,
        "epochs": rows,
    }


def write_run(
    directory: Path, results: Mapping[str, Any], config: Mapping[str, Any], overrides: Iterable[str]
) -> Path:
    """Write the results and the configuration of a run."""
    write_results(directory, dict(results))
    (directory / ".hydra").mkdir()
    (directory / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    (directory / ".hydra" / "overrides.yaml").write_text(json.dumps([*overrides]))
    return directory


def write_finished_sweep(
    directory: Path,
    jobs: Sequence[Sequence[str]],
    results: Callable[[int], dict[str, Any] | None],
    listed: bool = True,
    **record: Any,
) -> Path:
    """Write a sweep whose jobs have ended.

    Parameters
    ----------
    directory : Path
        Of the sweep.
    jobs : sequence of list of str
        The overrides of each job.
    results : callable
        Returns the results of a job by number; None: it never began.
    listed : bool
        Whether sweep.json lists the jobs, as that of a grid, or not, as that of a search.
    **record
        More entries of sweep.json.
    """
    asked = [AskedJob(n, [*overrides], str(n)) for n, overrides in enumerate(jobs)]
    settings: dict[str, Any] = {"overrides": [], "hydra_overrides": [], "params": {}, **record}
    with mock.patch.object(os, "fsync"):  # thousands of files
        write_sweep(directory, SweepRecord(jobs=asked if listed else None, **settings))
        for job in asked:
            found = results(job.number)
            if found is not None:
                status, error = found["status"], found.get("error", "")
                ended = JobRecord(job.number, job.overrides, job.directory, "h", status, error)
                write_job(directory, ended)
                write_results(directory / job.directory, found)
    return directory

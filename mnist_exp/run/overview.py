"""Summary of a run from its directory, for lists and tables of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.lock import is_locked
from mnist_exp.run.objective import Objective, Score, score
from mnist_exp.run.over_folds import of_reported_epochs
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import config_file
from mnist_exp.run.text_table import Share

DEAD, DAMAGED = "dead", "damaged"
NO_PROCESS = "its process is gone"
VALIDATION_ACCURACY = Objective()
NO_TRAINING = "it never began to train; start it again"


@dataclass(frozen=True)
class RunOverview:
    """Summary of a run from its directory; unknown values are None or empty.

    Attributes
    ----------
    directory : Path
        The run directory.
    status : str
        Status in results.json, except "dead" if no process holds the directory and results.json
        is missing or still says "running", and "damaged" if a file is unreadable or invalid.
    error : str
        Why the run failed or stopped.
    changed : float
        Unix time of the last write to results.json, or to the configuration without one.
    begun : bool
        False without results.json, when there is nothing to resume.
    model : str
        Model name.
    parameters : int or None
        Trainable parameters.
    accuracy, std : float or None
        Test accuracy, share in [0, 1]: mean and sample standard deviation over folds.
    validation : float or None
        Validation accuracy of the reported epoch, mean over folds.
    wall_seconds : float or None
        Duration in seconds.
    selection_rule : str
        How the reported epoch was chosen.
    config_hash : str or None
        Hash of the configuration that produced the results.
    metrics : dict
        Metrics besides accuracy by column, ``test_NAME`` and ``validation_NAME``: mean over folds,
        the latter of the reported epochs; a `Share` where people read it in per cent.
    stopped : str
        Why a callback ended the training of its first fold before the last epoch.
    threads : int or None
        CPU threads it trained on.
    host : str or None
        Name of the machine it trained on.
    folds : int or None
        Number of splits that the accuracy is over.
    score : Score or None
        The objective: of the reported epoch on validation images, or with k-fold on held-out ones.
    """

    directory: Path
    status: str
    error: str = ""
    changed: float = 0.0
    begun: bool = True
    model: str = ""
    parameters: int | None = None
    accuracy: float | None = None
    std: float | None = None
    validation: float | None = None
    wall_seconds: float | None = None
    selection_rule: str = ""
    config_hash: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped: str = ""
    threads: int | None = None
    host: str | None = None
    folds: int | None = None
    score: Score | None = None


def read_overview(directory: Path, objective: Objective = VALIDATION_ACCURACY) -> RunOverview:
    """Summarise the run in ``directory``; problems with its files become its ``error``.

    ``objective`` is what its ``score`` measures.
    """
    changed = last_written(directory)
    try:
        alive = is_locked(directory)  # before the results: a run that ends in between is not dead
        results = read_results(directory)
    except (UserError, OSError) as error:
        return RunOverview(directory, DAMAGED, str(error), changed)
    if results is None:
        if alive:
            return RunOverview(directory, "running", changed=changed, begun=False)
        return RunOverview(directory, DEAD, NO_TRAINING, changed, begun=False)
    status, reason = results["status"], results.get("error") or ""
    if status == "running" and not alive:
        status, reason = DEAD, NO_PROCESS
    accuracy = results.get("accuracy", {})
    return RunOverview(
        directory,
        status,
        reason,
        changed,
        model=results.get("model", ""),
        parameters=results.get("parameters"),
        accuracy=accuracy.get("mean"),
        std=accuracy.get("std"),
        validation=of_reported_epochs(results, "validation_accuracy"),
        wall_seconds=results.get("wall_seconds"),
        selection_rule=results.get("selection_rule", ""),
        config_hash=results.get("config_hash"),
        metrics=metric_columns(results),
        stopped=next((fold.get("stopped", "") for fold in results.get("folds", ())), ""),
        threads=results.get("threads"),
        host=results.get("host"),
        folds=accuracy.get("n"),
        score=score(results, objective),
    )


def metric_columns(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of `RunOverview`; those without a value are left out."""
    found: dict[str, float] = {}
    for name, over_folds in results.get("metrics", {}).items():
        values = {
            f"test_{name}": over_folds["mean"],
            f"validation_{name}": of_reported_epochs(results, f"validation_{name}"),
        }
        kind = Share if over_folds.get("percent") else float
        found |= {column: kind(value) for column, value in values.items() if value is not None}
    return found


def last_written(directory: Path) -> float:
    """Return the Unix time of the last write to results or configuration; 0 without either."""
    for path in (directory / RESULTS, config_file(directory)):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0

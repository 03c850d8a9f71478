"""The run directory: what a run writes, and where."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_exp.models import MLP
from mnist_exp.run.checkpoints import (
    epoch_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
)
from mnist_exp.run.files import append_json_line, write_json
from mnist_exp.train import Callback
from mnist_exp.training_state import Row, TrainState

RESULTS_SCHEMA_VERSION = 1


class RunDirectory:
    """Paths and writers of one run.

    Parameters
    ----------
    path : Path
        The run directory; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def checkpoints(self, fold: int | None) -> Path:
        """Return the directory of a fold's checkpoints, or of the only split's."""
        directory = self.path / "checkpoints"
        return directory if fold is None else directory / f"fold_{fold}"

    def write_results(self, results: dict[str, Any]) -> None:
        """Replace results.json."""
        write_json(
            self.path / "results.json", {"schema_version": RESULTS_SCHEMA_VERSION, **results}
        )

    def append_metrics(self, row: Row) -> None:
        """Append an epoch to metrics.jsonl."""
        append_json_line(self.path / "metrics.jsonl", row)


class Recorder(Callback):
    """Write each epoch's metrics and checkpoints as they happen.

    Parameters
    ----------
    run : RunDirectory
        Where to.
    fold : int or None
        The fold, recorded with every row.
    keep : int
        How many of the newest checkpoints stay.
    by_validation : bool
        Whether ``best.pt`` is the epoch with the best validation accuracy, the earlier one if
        two are equal; otherwise it is the last epoch.
    config_hash : str
        Recorded in every checkpoint.
    """

    def __init__(
        self, run: RunDirectory, fold: int | None, keep: int, by_validation: bool, config_hash: str
    ) -> None:
        self.run = run
        self.fold = fold
        self.keep = keep
        self.by_validation = by_validation
        self.config_hash = config_hash
        self.directory = run.checkpoints(fold)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Write best.pt, the epoch's checkpoint, and then the row that vouches for both."""
        if selected_epoch(state.history, self.by_validation) == state.epoch:
            save_checkpoint(
                self.directory / "best.pt",
                {**self._identity(state), "model": state.evaluated_model.state_dict()},
            )
        self.save(state)
        remove_old_checkpoints(self.directory, self.keep)
        self.run.append_metrics(row if self.fold is None else {"fold": self.fold, **row})

    def save(self, state: TrainState) -> None:
        """Write a checkpoint from which training goes on, in the middle of an epoch or not."""
        path = epoch_checkpoint(self.directory, state.epoch)
        save_checkpoint(path, {**self._identity(state), "state": state.state_dict()})

    def _identity(self, state: TrainState) -> dict[str, Any]:
        return {"config_hash": self.config_hash, "fold": self.fold, "epoch": state.epoch}


def selected_epoch(history: list[Row], by_validation: bool) -> int:
    """Return the epoch reported: best validation accuracy, the earliest of equals; or the last."""
    if not by_validation:
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: row["validation_accuracy"])["epoch"])


def export_weights(model: nn.Module, path: Path) -> None:
    """Write the weights the network computes with, as a plain ``state_dict`` for torch.load."""
    if isinstance(model, MLP):
        weights = {}
        for index, layer in enumerate(model.network):
            for name in ("weight", "bias"):
                if hasattr(layer, name):
                    weights[f"network.{index}.{name}"] = getattr(layer, name).detach().cpu()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights, path)


def hash_config(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def git_commit(directory: Path) -> str | None:
    """Return the commit of the checkout ``directory`` is in, with ``-dirty`` if it has changes."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None
    return found.stdout.strip()

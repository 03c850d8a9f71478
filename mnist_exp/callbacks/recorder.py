"""Each epoch's metrics and checkpoints, written as they happen."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_atomic
from mnist_exp.models import MLP
from mnist_exp.run.checkpoints import epoch_checkpoint, remove_old_checkpoints
from mnist_exp.run.directory import RunDirectory
from mnist_exp.run.saved_state import check_state
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState


class Recorder(Callback):
    """Write each epoch's metrics and checkpoints as they happen.

    Parameters
    ----------
    run : RunDirectory
        Destination.
    fold : int or None
        The fold, recorded with every row.
    keep : int
        Number of newest checkpoints to keep.
    by_validation : bool
        Whether ``best.pt`` is the epoch with the best validation accuracy, the earliest of
        equals; otherwise it is the last epoch.
    """

    def __init__(self, run: RunDirectory, fold: int | None, keep: int, by_validation: bool) -> None:
        self.run = run
        self.fold = fold
        self.keep = keep
        self.by_validation = by_validation
        self.directory = run.checkpoints(fold)

    def restore(self, state: TrainState, saved: dict[str, Any]) -> None:
        """Load a checkpoint's state into a freshly built ``state``.

        Raises
        ------
        UserError
            If it does not fit the model, or lacks validation accuracies that it needs.
        """
        if self.by_validation and any("validation_accuracy" not in r for r in saved["history"]):
            raise UserError(f"{self.directory}: an epoch of the checkpoint was not validated.")
        check_state(saved, state, self.directory)
        try:
            state.load_state_dict(saved)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.directory}: the newest checkpoint does not fit this model or machine: "
                f"{error}"
            ) from error
        if state.best is not None:
            self._save_best(state.best)

    def start_clock(self, state: TrainState) -> None:
        """Start measuring ``state.wall_seconds``, added to its current value."""
        self._started = time.perf_counter() - state.wall_seconds

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Write best.pt, the epoch's checkpoint, and then the row that vouches for both."""
        if selected_epoch(state.history, self.by_validation) == state.epoch:
            weights = state.evaluated_model.state_dict()
            state.best = {
                "epoch": state.epoch,
                "model": {name: value.clone() for name, value in weights.items()},
            }
            self._save_best(state.best)
        self.save(state)
        remove_old_checkpoints(self.directory, self.keep)
        self.run.append_metrics(row, self.fold)

    def save(self, state: TrainState) -> None:
        """Write a checkpoint to resume from, at the end of an epoch or within it."""
        state.wall_seconds = time.perf_counter() - self._started
        path = epoch_checkpoint(self.directory, state.epoch, partial=state.order is not None)
        self.run.save(path, self.fold, {"epoch": state.epoch, "state": state.state_dict()})

    def _save_best(self, best: dict[str, Any]) -> None:
        self.run.save(self.directory / "best.pt", self.fold, best)


def fold_label(fold: int | None) -> str:
    """Return the prefix of lines printed about a fold."""
    return "" if fold is None else f"fold {fold} | "


def selected_epoch(history: list[Row], by_validation: bool) -> int:
    """Return the reported epoch: the earliest with the best validation accuracy, or the last."""
    if not by_validation:
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: row["validation_accuracy"])["epoch"])


def export_weights(model: nn.Module, path: Path) -> None:
    """Write an MLP's effective weights as a plain ``state_dict``; other models write no file."""
    if isinstance(model, MLP):
        weights = {}
        for index, layer in enumerate(model.network):
            for name in ("weight", "bias"):
                if hasattr(layer, name):
                    weights[f"network.{index}.{name}"] = getattr(layer, name).detach().cpu()
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_atomic(path, buffer.getvalue())

"""Warnings about a device constraint before training, and its figures for each epoch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch.nn import functional as F

from mnist_exp.device import DeviceConstraint
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training

SAMPLE = 1000  # training images whose gradient gives the share of lost updates before training


class DeviceMonitor(Callback):
    """Warn about dead zones and a wrong range, and report the constraint's figures each epoch."""

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Print the warnings, unless training resumes; once for all folds, which hardly differ."""
        if state.epoch or state.batch or training.fold not in (None, 1):
            return
        inputs, labels = training.images.batch(training.indices[:SAMPLE], None, None)
        state.model.eval()  # draws no random numbers and leaves running statistics alone
        (training.recipe.loss or F.cross_entropy)(state.model(inputs), labels).backward()
        for sentence in _constraint(state).warnings(_peak_rate(state)):
            print(f"warning: {sentence}", file=sys.stderr, flush=True)
        state.optimizer.zero_grad()

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Add the constraint's figures and the occupancy of its levels to the row."""
        constraint = _constraint(state)
        row |= constraint.diagnostics()
        levels, counts = constraint.histogram()
        row["level_histogram"] = {"levels": levels.tolist(), "counts": counts.tolist()}

    def figures(self, folds: Sequence[Any]) -> dict[str, Any]:
        """Draw the levels in use, and the shares of lost updates and of devices at bounds."""
        from mnist_exp.plots.device import levels_figure, shares_figure  # loads matplotlib

        histories = [fold.history for fold in folds]
        return {
            "device_levels": levels_figure(histories),
            "device_shares": shares_figure(histories),
        }


def _constraint(state: TrainState) -> DeviceConstraint:
    assert state.constraint is not None, "this callback is for runs with a constraint"
    return state.constraint


def _peak_rate(state: TrainState) -> float:
    """Return the run's largest learning rate, for potentiation or depression."""
    group = state.optimizer.param_groups[0]
    peak = float(group.get("max_lr", group["lr"]))  # OneCycleLR stores its peak as max_lr
    return peak * max(1.0, group.get("neg_to_pos", 1.0))

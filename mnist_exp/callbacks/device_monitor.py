"""Warnings about a device constraint before training; its figures and costs for each epoch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mnist_exp.device import DeviceConstraint
from mnist_exp.device.read_counts import Reads
from mnist_exp.device.reading.layers import restarted
from mnist_exp.device.reads import reads_of_a_sample
from mnist_exp.run.training_cost import PREFIX
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training

SAMPLE = 1000  # training images whose gradient gives the share of lost updates before training


class DeviceMonitor(Callback):
    """Warn about dead zones and a wrong range; report the constraint's figures and costs.

    Reads are counted for every training batch, once even where an optimizer evaluates it several
    times, and for the images that are evaluated after each epoch.
    """

    def __init__(self) -> None:
        self.forward, self.backward = Reads(), Reads()  # of a sample
        self.trained = self.evaluated = 0  # samples
        self.counts, self.an_epoch = False, 0

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Find how much a sample reads; print the warnings, once for all folds.

        Folds hardly differ in them. A resumed training prints none.
        """
        constraint = _constraint(state)
        self.counts = getattr(constraint, "cost", None) is not None  # it may be the user's own
        self.an_epoch = _evaluated_an_epoch(training)
        begun = state.epoch or state.batch
        if self.counts and not begun:
            sample = training.images.batch(training.indices[:1], None, None)[0]
            self.forward, self.backward = reads_of_a_sample(state.model, constraint.layers, sample)
        if begun or training.fold not in (None, 1):
            return
        inputs, labels = training.images.batch(training.indices[:SAMPLE], None, None)
        state.model.eval()  # draws no random numbers and leaves running statistics alone
        with restarted(state.model):
            (training.recipe.loss or F.cross_entropy)(state.model(inputs), labels).backward()
        for sentence in constraint.warnings(_peak_rate(state)):
            print(f"warning: {sentence}", file=sys.stderr, flush=True)
        state.optimizer.zero_grad()

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        """Count the samples."""
        self.trained += len(indices)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Add the constraint's figures, costs and the occupancy of its levels to the row."""
        constraint = _constraint(state)
        row |= constraint.diagnostics()
        levels, counts = constraint.histogram()
        row["level_histogram"] = {"levels": levels.tolist(), "counts": counts.tolist()}
        if not self.counts:
            return
        self.evaluated += self.an_epoch
        reads = {
            "forward": self.forward * self.trained,
            "backward": self.backward * self.trained,
            "evaluation": self.forward * self.evaluated,
        }
        row |= {f"{PREFIX}{name}": value for name, value in constraint.costs(reads).items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of samples and what one reads; nothing if nothing is counted."""
        if not self.counts:
            return {}
        reads = {name: vars(getattr(self, name)).copy() for name in ("forward", "backward")}
        return {"trained": self.trained, "evaluated": self.evaluated, **reads}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore them."""
        self.trained, self.evaluated = saved["trained"], saved["evaluated"]
        self.forward, self.backward = Reads(**saved["forward"]), Reads(**saved["backward"])

    def figures(self, folds: Sequence[Any]) -> dict[str, Any]:
        """Draw the levels in use, the shares of lost updates and of devices at bounds, pulses."""
        from mnist_exp.plots import device  # loads matplotlib

        histories = [fold.history for fold in folds]
        counted = all(f"{PREFIX}pulses" in row for rows in histories for row in rows)
        return {
            "device_levels": device.levels_figure(histories),
            "device_shares": device.shares_figure(histories),
            **({"device_pulses": device.pulses_figure(histories)} if counted else {}),
        }


def _constraint(state: TrainState) -> DeviceConstraint:
    assert state.constraint is not None, "this callback is for runs with a constraint"
    return state.constraint


def _evaluated_an_epoch(training: Training) -> int:
    """Return the number of images that are evaluated after an epoch."""
    split, settings = training.split, training.config.get("training", {})
    if split is None:
        return 0
    parts = [split.validation, split.test if settings.get("test_every_epoch") else None]
    return sum(len(part) for part in parts if part is not None)


def _peak_rate(state: TrainState) -> float:
    """Return the run's largest learning rate, for potentiation or depression."""
    group = state.optimizer.param_groups[0]
    peak = float(group.get("max_lr", group["lr"]))  # OneCycleLR stores its peak as max_lr
    return peak * max(1.0, group.get("neg_to_pos", 1.0))

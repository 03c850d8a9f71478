"""Warnings about a device constraint before training, and its figures for each epoch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mnist_exp.data.batches import Images
from mnist_exp.device import DeviceConstraint
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState


class DeviceDiagnostics(Callback):
    """Warn about dead zones and a wrong range, and report the constraint's figures each epoch.

    Parameters
    ----------
    constraint : DeviceConstraint
        Attached to the trained model.
    images : Images
        The data.
    indices : Tensor
        int64; images whose gradient gives the share of lost updates before training.
    """

    def __init__(self, constraint: DeviceConstraint, images: Images, indices: Tensor) -> None:
        self.constraint = constraint
        self.images = images
        self.indices = indices

    def on_train_start(self, state: TrainState) -> None:
        """Print the warnings, unless training resumes from a checkpoint."""
        if state.epoch or state.batch:
            return
        inputs, labels = self.images.batch(self.indices)
        state.model.eval()  # draws no random numbers and leaves running statistics alone
        F.cross_entropy(state.model(inputs), labels).backward()
        for sentence in self.constraint.warnings(_peak_rate(state)):
            print(f"warning: {sentence}")
        state.optimizer.zero_grad()

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Add the constraint's figures and the occupancy of its levels to the row."""
        row |= self.constraint.diagnostics()
        levels, counts = self.constraint.histogram()
        row["level_histogram"] = {"levels": levels.tolist(), "counts": counts.tolist()}


def _peak_rate(state: TrainState) -> float:
    """Return the run's largest learning rate, for potentiation or depression."""
    group = state.optimizer.param_groups[0]
    peak = float(group.get("max_lr", group["lr"]))  # OneCycleLR stores its peak as max_lr
    return peak * max(1.0, group.get("neg_to_pos", 1.0))

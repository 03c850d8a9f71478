"""Send each epoch's metrics to an experiment tracker."""

from __future__ import annotations

from typing import Protocol

from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState


class Writer(Protocol):
    """The interface of a tracker, that of ``torch.utils.tensorboard.SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record a number."""

    def close(self) -> None:
        """Write what is recorded to disk."""


class Tracking(Callback):
    """Write every number of an epoch's row, tagged with its column."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Record the row's numbers; lists and strings go to metrics.jsonl only."""
        for column, value in row.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(column, value, state.epoch)

    def close(self) -> None:
        """Write what is recorded to disk."""
        self.writer.close()

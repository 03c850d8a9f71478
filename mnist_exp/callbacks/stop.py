"""Stop at the end of a batch after a stop signal."""

from __future__ import annotations

from mnist_exp.interruption import StopSignals
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState


class StopAtBatchEnd(Callback):
    """Stop training after a batch or an epoch if a stop signal has arrived."""

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """Stop with the batch done."""
        self.signals.check()

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Stop with the epoch recorded."""
        self.signals.check()

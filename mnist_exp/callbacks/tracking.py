"""Send each epoch's metrics to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class TensorBoard(Callback):
    """Write every number of an epoch's row, tagged with its column.

    Parameters
    ----------
    flush_secs : int
        Seconds between two writes to disk.
    """

    def __init__(self, flush_secs: int = 30) -> None:
        self.flush_secs = flush_secs
        self.writer: Any = None

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Raise UserError if the package is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError("tracker=tensorboard: run `pip install tensorboard` first.") from error
        return ()

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Open the files."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(
            str(training.directory / "tensorboard"), flush_secs=self.flush_secs
        )

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Record the row's numbers; lists and strings go to metrics.jsonl only."""
        for column, value in row.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(column, value, state.epoch)

    def close(self) -> None:
        """Write what is recorded to disk."""
        if self.writer is not None:
            self.writer.close()

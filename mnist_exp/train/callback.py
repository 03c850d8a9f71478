"""Hooks around the training steps."""

from __future__ import annotations

from torch import Tensor

from mnist_exp.train.state import Row, TrainState


class Callback:
    """Hooks around the training steps, all empty; override what you need."""

    def on_train_start(self, state: TrainState) -> None:
        """Before the first batch, and again when training resumes."""

    def on_batch_start(self, state: TrainState, indices: Tensor, images: Tensor) -> None:
        """Before the forward pass: the batch's indices [B] and normalised images."""

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """After the optimizer step, with gradients still set."""

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """After evaluation; entries added to ``row`` are reported with the epoch."""

    def close(self) -> None:
        """Release resources; the caller of `train` calls it, even after an error."""

"""What happens around the training steps."""

from __future__ import annotations

from torch import Tensor

from mnist_exp.train.state import Row, TrainState


class Callback:
    """What happens around the training steps; override what is of use."""

    def on_train_start(self, state: TrainState) -> None:
        """Before the first batch, and again when a stopped training goes on."""

    def on_batch_start(self, state: TrainState, indices: Tensor, images: Tensor) -> None:
        """Before the forward pass: the batch's indices [B] and normalised images."""

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """After the optimizer step; gradients are still there."""

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """After evaluation; what is added to ``row`` is reported with the epoch."""

    def close(self) -> None:
        """Release what is open; the caller of `train` does it, also after an error."""

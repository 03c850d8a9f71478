"""A callback that holds a training at one batch, so that tests stop a job at a known place."""

from __future__ import annotations

import time

from torch import Tensor

from mnist_exp.train import Callback
from mnist_exp.train.state import TrainState
from mnist_exp.train.training import Training

EPOCH, BATCH = 1, 2  # complete epochs, and batches of the next, at which it holds
LONGEST = 600.0  # seconds that it holds at most, should the test have failed
STARTS = "starts"  # file in the run directory: epochs and batches done at each start, a line each
HELD = "held"  # file in the run directory, once it holds
LET_GO = "let_go"  # file beside the run directories that ends the wait


class HeldTraining(Callback):
    """Wait at a batch until a stop signal arrives, or until the file `LET_GO` exists."""

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Note where the training starts."""
        self.training = training
        with (training.run / STARTS).open("a") as file:
            file.write(f"{state.epoch} {state.batch}\n")

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Wait if the batch has come; the recorder then saves it and stops."""
        if (state.epoch, state.batch) != (EPOCH, BATCH):
            return
        run, deadline = self.training.run, time.monotonic() + LONGEST
        (run / HELD).touch()
        while self.training.signals.received is None and time.monotonic() < deadline:
            if (run.parent / LET_GO).exists():
                return
            time.sleep(0.01)

"""Progress bar on a terminal, and one line per epoch."""

from __future__ import annotations

import multiprocessing
import sys
from typing import TextIO

from torch import Tensor
from tqdm import tqdm

from mnist_exp.train.callback import Callback
from mnist_exp.train.metrics import TAKEN
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class Progress(Callback):
    """Print progress to standard output.

    Parameters
    ----------
    verbose : bool
        Whether to print the first layer's gradient norm after every batch.
    stream : TextIO or None
        Destination; None: standard output. The bar is drawn only on a terminal, and only in the
        main process, since other processes may print too.
    """

    def __init__(self, *, verbose: bool = False, stream: TextIO | None = None) -> None:
        self.verbose = verbose
        self.stream = stream or sys.stdout
        self.draws_bar = self.stream.isatty() and multiprocessing.parent_process() is None
        self.bar: tqdm | None = None

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Take the number of epochs and batches, and the fold's label."""
        self.epochs = training.recipe.epochs
        self.batches = training.batches
        self.label = training.label

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        """Open the bar with the first batch of an epoch."""
        if self.bar is None and self.draws_bar:
            self.bar = tqdm(
                total=self.batches,
                initial=state.batch,
                desc=f"{self.label}epoch {state.epoch + 1}/{self.epochs}",
                unit="batch",
                file=self.stream,
                leave=False,
                mininterval=0.2,
                dynamic_ncols=True,
            )

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Advance the bar; loss and accuracy are those of the epoch so far."""
        if self.verbose:
            print(f"{self.label}batch {state.batch}: loss {loss:.4f}{_norm(state)}")
        if self.bar is not None and self.bar.update() and state.samples:
            self.bar.set_postfix_str(
                f"loss {state.loss_sum / state.samples:.4f}, "
                f"accuracy {state.correct / state.samples:.2%}, "
                f"{1000 * state.seconds / state.batch:.2f} ms/batch, "
                f"{state.samples / state.seconds:,.0f} samples/s",
                refresh=False,
            )

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Close the bar and print the epoch's line."""
        self.close()
        print(self.label + epoch_line(row, self.epochs), file=self.stream, flush=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def epoch_line(row: Row, epochs: int) -> str:
    """Format an epoch's metrics as one line."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for part in ("train", "validation", "test"):
        if f"{part}_loss" in row:
            parts.append(
                f"{part} loss {row[f'{part}_loss']:.4f} accuracy {row[f'{part}_accuracy']:.2%}"
            )
            parts[-1] += "".join(
                f" {name} {row[f'{part}_{name}']:.4g}" for name in _metrics(row, part)
            )
    parts.append(f"{row['seconds']:.1f} s, {row['samples_per_second']:,.0f} samples/s")
    return " | ".join(parts)


def _metrics(row: Row, part: str) -> list[str]:
    """Return the names of metrics that are one number; those of several are in metrics.jsonl."""
    names = [key.removeprefix(f"{part}_") for key in row if key.startswith(f"{part}_")]
    return [
        name
        for name in names
        if name not in TAKEN and "." not in name and isinstance(row[f"{part}_{name}"], float)
    ]


def _norm(state: TrainState) -> str:
    norms = state.gradient_norms
    return f", gradient norm of the first layer {norms[-1]:.4g}" if norms else ""

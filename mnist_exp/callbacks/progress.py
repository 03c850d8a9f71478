"""Progress of a training: a bar on a terminal, and one line per epoch."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TextIO

from torch import Tensor

from mnist_exp.callbacks.display import Display, Terminal
from mnist_exp.train.callback import Callback
from mnist_exp.train.metrics import TAKEN, in_percent
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class Progress(Callback):
    """Report progress to a display.

    Parameters
    ----------
    verbose : bool
        Whether to print the first layer's gradient norm after every batch.
    stream : TextIO or None
        Where to print without a ``display``; None: standard output.
    display : Display or None
        Shared by the folds of a run; None: one for this training alone.
    """

    def __init__(
        self,
        *,
        verbose: bool = False,
        stream: TextIO | None = None,
        display: Display | None = None,
    ) -> None:
        self.verbose = verbose
        self.display: Display = display or Terminal(stream)

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Take the number of epochs and batches, the fold's label and what the loss is."""
        self.epochs = training.recipe.epochs
        self.batches = training.batches
        self.label = training.label
        self.loss_note = training.recipe.loss_note
        self.percent = in_percent(training.metrics)
        self.shown_steps = training.steps(state)
        self.shown_at = 0.0
        self.display.begin(self.epochs * self.batches, self.shown_steps)

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Advance the bar; loss and accuracy are those of the epoch so far."""
        if self.verbose:
            line = f"{self.label}batch {state.batch}: loss {loss:.4f}{_norm(state)}"
            self.display.line(line)
        now = time.monotonic()
        if now - self.shown_at >= self.display.interval:
            self.shown_at = now
            self._advance(state, state.epoch + 1, state.epoch * self.batches + state.batch)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Print the epoch's line."""
        if state.stopped is not None:
            self.display.shorten((self.epochs - state.epoch) * self.batches)
        self._advance(state, state.epoch, state.epoch * self.batches)
        self.display.line(self.label + epoch_line(row, self.epochs, self.loss_note, self.percent))

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self.display.close()

    def _advance(self, state: TrainState, epoch: int, steps: int) -> None:
        numbers = [f"{state.samples / state.seconds:,.0f} samples/s"]
        numbers.append(f"{1000 * state.seconds / max(state.batch, 1):.2f} ms/batch")
        if state.samples:
            loss, accuracy = state.loss_sum / state.samples, state.correct / state.samples
            numbers = [f"accuracy {accuracy:.2%}", f"loss {loss:.4f}", *numbers]
        heading = f"{self.label}epoch {epoch}/{self.epochs}"
        self.display.advance(steps - self.shown_steps, heading, numbers)
        self.shown_steps = steps


def epoch_line(row: Row, epochs: int, loss_note: str = "", percent: Collection[str] = ()) -> str:
    """Format an epoch's metrics as one line.

    ``loss_note`` is `Recipe.loss_note`; the metrics named in ``percent`` are shown in per cent.
    """
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for part in ("train", "validation", "test"):
        if f"{part}_loss" in row:
            note = f" ({loss_note})" if loss_note and part == "train" else ""
            loss, accuracy = row[f"{part}_loss"], row[f"{part}_accuracy"]
            parts.append(f"{part} loss {loss:.4f}{note} accuracy {accuracy:.2%}")
            parts[-1] += "".join(
                f" {name} {row[f'{part}_{name}']:{'.2%' if name in percent else '.4g'}}"
                for name in _metrics(row, part)
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

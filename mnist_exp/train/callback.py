"""Hooks around the training steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class Callback:
    """Hooks around the training steps, all empty; override what you need.

    Each fold has callbacks of its own. `check`, `on_run_end` and `figures` are called in the main
    process, on those of the first fold; when folds train in parallel, the other hooks run in other
    processes, and what the first three need of them travels in `state_dict`.
    """

    # Whether training may resume within an epoch. If not, an interrupted epoch is repeated.
    resumes_within_epochs = True

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Before anything is written: return warnings.

        Raises
        ------
        UserError
            If the callback cannot work in a run of ``folds`` folds.
        """
        return ()

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Before the first batch, and again when training resumes."""

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        """Before the forward pass: the batch's indices [B] and normalised images."""

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """After the optimizer step, with gradients still set; ``loss`` is the batch's mean [].

        The next batch may write its gradients to the same memory.
        """

    def on_step_logged(self, state: TrainState, row: Row) -> None:
        """Every ``training.log_every`` steps: epoch, step, loss, accuracy and lr of the batch.

        Entries added to ``row`` go into steps.jsonl.
        """

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """After evaluation; entries added to ``row`` are reported with the epoch.

        ``state.stop(reason)`` ends the training here.
        """

    def on_run_end(self, results: Mapping[str, Any], directory: Path) -> None:
        """Once, after the test of all folds: the content of results.json, the run directory."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the next epoch needs, as plain values and tensors; checkpoints hold it."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; not called if that was empty."""

    def figures(self, folds: Sequence[Any]) -> dict[str, Any]:
        """Return matplotlib figures to draw at the end of the run, by name.

        Parameters
        ----------
        folds : sequence of FoldResult
            Results, one per split; ``folds[0].history`` holds its rows of metrics.jsonl.
        """
        return {}

    def close(self) -> None:
        """Release resources, even after an error."""


def notify(callbacks: Iterable[Callback], hook: str, *arguments: Any) -> None:
    """Call a hook of each callback, in order."""
    for callback in callbacks:
        getattr(callback, hook)(*arguments)

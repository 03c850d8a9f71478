"""Each epoch's metrics and checkpoints, written as they happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnist_exp.interruption import Interrupted
from mnist_exp.run.checkpoints import epoch_checkpoint, remove_old_checkpoints
from mnist_exp.run.directory import RunDirectory
from mnist_exp.run.saved_state import check_plain
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class Recorder(Callback):
    """Write metrics and checkpoints as they happen; on a stop signal, save and stop.

    Comes last, so that rows and checkpoints hold what the other callbacks add.

    Parameters
    ----------
    run : RunDirectory
        Destination.
    keep : int
        Number of newest checkpoints to keep.
    by_validation : bool
        Whether ``best.pt`` is the epoch with the best validation accuracy, the earliest of
        equals; otherwise it is the last epoch.
    others : mapping of str to Callback
        Callbacks whose state the checkpoints hold, by name.
    """

    def __init__(
        self, run: RunDirectory, keep: int, by_validation: bool, others: Mapping[str, Callback]
    ) -> None:
        self.run = run
        self.keep = keep
        self.by_validation = by_validation
        self.others = others
        self._steps: list[Row] = []  # rows of steps.jsonl not written yet

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Write best.pt again, which may be that of a later epoch than the checkpoint."""
        self.training = training
        self.directory = self.run.checkpoints(training.fold)
        if state.best is not None:
            self._save_best(state.best)

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """After a stop signal, save the batches done and stop."""
        if not self.training.logs(self.training.steps(state)):  # else its row comes first
            self._stop_on_signal(state)

    def on_step_logged(self, state: TrainState, row: Row) -> None:
        """Keep the row until the next checkpoint; after a stop signal, save and stop."""
        self._steps.append(row)
        self._stop_on_signal(state)

    def _stop_on_signal(self, state: TrainState) -> None:
        try:
            self.training.signals.check()
        except Interrupted:
            if all(other.resumes_within_epochs for other in self.others.values()):
                self._save(state)
            raise

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Write best.pt, the epoch's checkpoint, and then the row that vouches for both."""
        if selected_epoch(state.history, self.by_validation) == state.epoch:
            weights = state.evaluated_model.state_dict()
            state.best = {
                "epoch": state.epoch,
                "model": {name: value.clone() for name, value in weights.items()},
            }
            self._save_best(state.best)
        self._save(state)
        remove_old_checkpoints(self.directory, self.keep)
        self.run.append_metrics(row, self.training.fold)
        self.training.signals.check()

    def _save(self, state: TrainState) -> None:
        """Write a checkpoint to resume from, at the end of an epoch or within it."""
        state.read_clock()
        path = epoch_checkpoint(self.directory, state.epoch, partial=state.order is not None)
        # before the checkpoint: rows beyond it are dropped when the run resumes, lost ones are lost
        self.run.append_steps(self._steps, self.training.fold)
        self._steps = []
        content = {
            "epoch": state.epoch,
            "step": self.training.steps(state),
            "state": state.state_dict(),
            "callbacks": self._states(),
        }
        self.run.save(path, self.training.fold, content)

    def _states(self) -> dict[str, Any]:
        states = {name: other.state_dict() for name, other in self.others.items()}
        for name, saved in states.items():
            check_plain(saved, f"{name}.state_dict()")
        return {name: saved for name, saved in states.items() if saved}

    def _save_best(self, best: dict[str, Any]) -> None:
        self.run.save(self.directory / "best.pt", self.training.fold, best)


def selected_epoch(history: list[Row], by_validation: bool) -> int:
    """Return the reported epoch: the earliest with the best validation accuracy, or the last."""
    if not by_validation:
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: row["validation_accuracy"])["epoch"])

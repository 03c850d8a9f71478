"""End the training when a value on the validation images has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mnist_exp.schema import LENGTH_ARGUMENTS
from mnist_exp.schema.parts import EARLY_STOPPING
from mnist_exp.schema.rule import check_settings
from mnist_exp.train.callback import Callback
from mnist_exp.train.monitor import check_column, column_of, mode_of, monitored
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training
from mnist_exp.wording import counted


class EarlyStopping(Callback):
    """End the training after ``patience`` epochs without improvement of a validated value.

    Parameters
    ----------
    monitor : str
        Column of metrics.jsonl: ``validation_loss``, ``validation_accuracy``, or of a metric, such
        as ``validation_f1.3``.
    patience : int
        Epochs in a row without improvement.
    min_delta : float
        What an improvement must exceed.
    mode : {"min", "max"} or None
        Whether lower or higher values are better; None: as the monitored value says.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(
        self,
        *,
        monitor: str = "validation_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
    ) -> None:
        settings = {"monitor": monitor, "patience": patience, "min_delta": min_delta, "mode": mode}
        check_settings(EARLY_STOPPING, settings, "callbacks.early_stopping")
        self.column = column_of(monitor)
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.best: float | None = None
        self.waited = 0  # epochs since the best value

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Return a warning if the schedule would be cut short.

        Raises
        ------
        UserError
            If the value is not measured.
        """
        others = [
            entry
            for entry in training.config.get("callbacks", {}).values()
            if not entry.get("_target_", "").endswith(".EarlyStopping")
        ]
        check_column(
            self.column,
            f"callbacks.early_stopping: monitor={self.column}",
            training.split is None or training.split.validation is not None,
            getattr(training, "metrics", {}),
            ("validation",),
            complete=not others,
        )
        scheduler = training.config.get("scheduler", {})
        if any(scheduler.get(name, "") is None for name in LENGTH_ARGUMENTS):
            yield (
                f"callbacks.early_stopping: {scheduler['_target_']} spans all "
                f"{training.recipe.epochs} epochs; if training stops early, its last rates are "
                "never reached."
            )

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Take the direction of the value; stop at once if a shorter run waited long enough."""
        self.epochs = training.recipe.epochs
        self.rises = (self.mode or mode_of(self.column, getattr(training, "metrics", {}))) == "max"
        self._stop_if_due(state)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Compare the epoch's value with the best so far."""
        value = monitored(row, self.column)
        best = math.inf if self.best is None else (-self.best if self.rises else self.best)
        if (-value if self.rises else value) < best - self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        self._stop_if_due(state)

    def _stop_if_due(self, state: TrainState) -> None:
        if self.waited >= self.patience and state.epoch < self.epochs:
            before = f"{counted(self.waited, 'epoch')} before"
            state.stop(f"{self.column} was best, {self.best:.4g}, {before}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.waited = saved["best"], saved["waited"]

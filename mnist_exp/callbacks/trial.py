"""A trial of a search: check that its objective is measured, and report it after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mnist_exp.errors import UserError
from mnist_exp.run.results import PRUNED
from mnist_exp.train.callback import Callback
from mnist_exp.train.monitor import check_column, monitored
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class SearchTrial(Callback):
    """Check a trial's objective, and end its training where it falls behind.

    Parameters
    ----------
    column : str
        The objective, a column of metrics.jsonl.
    falls_behind : callable or None
        Takes the objective and the epoch, and returns whether to end the trial; None: never.
    no_pruning : str
        Message for a trial of several folds, which cannot be compared after an epoch.
    """

    def __init__(
        self,
        column: str,
        falls_behind: Callable[[float, int], bool] | None = None,
        no_pruning: str = "",
    ) -> None:
        self.column = column
        self.falls_behind = falls_behind
        self.no_pruning = no_pruning

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Return no warnings.

        Raises
        ------
        UserError
            If test images alone could measure the objective, or nothing does.
        """
        if self.falls_behind is not None and folds > 1:
            raise UserError(self.no_pruning)
        check_column(
            self.column,
            f"sweep.objective={self.column}",
            folds > 1 or training.split is None or training.split.validation is not None,
            training.metrics,
            ("validation",),
            complete=not training.config.get("callbacks"),
        )
        return ()

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Take the number of epochs."""
        self.epochs = training.recipe.epochs

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Report the objective; end the training if it falls behind other trials'."""
        if self.falls_behind is None:
            return
        value = monitored(row, self.column)
        if self.falls_behind(value, state.epoch) and state.epoch < self.epochs:
            state.stop(f"{PRUNED}: {self.column} {value:.4g} after epoch {state.epoch} of "
                       f"{self.epochs} was behind other trials")  # fmt: skip

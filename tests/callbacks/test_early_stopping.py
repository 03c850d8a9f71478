"""Early stopping ends a training by its validation, and resumes bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from mnist_exp.callbacks.early_stopping import EarlyStopping
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run.report import summary_lines
from mnist_exp.train.callback import Callback
from mnist_exp.train.loop import train
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training
from tests.app.test_resume import StopAfter
from tests.conftest import Compose
from tests.experiment.test_torch_parts import check_and_run
from tests.helpers.fault_injection import SMALL, composed, outcome
from tests.train.test_loop import Setup

# At this rate the validation loss rises after a few epochs.
RUN = (
    *("model=mlp", "model.hidden_sizes=[16]", "cv.validation=100", "data.subset=100", *SMALL),
    *("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "training.epochs=40"),
    *("optimizer.lr=0.03", "scheduler=constant"),
)


@pytest.mark.parametrize(
    ("values", "settings", "epochs"),
    [
        ([5, 4, 3, 3, 3, 2, 1], {"patience": 2}, 5),
        ([5, 4, 3, 3, 2, 3, 3], {"patience": 2}, 7),
        ([5, 4, 3, 3, 2, 3, 3], {"patience": 3}, 7),
        ([5, 4.9, 4.8, 4.7, 1, 1, 1], {"patience": 2, "min_delta": 0.5}, 3),
        ([1, 2, 3, 3, 3, 4, 5], {"patience": 2, "mode": "max"}, 5),
        ([-1, -2, -3, -3, -3, -4, -5], {"patience": 2}, 5),
    ],
)
def test_ends_after_so_many_epochs_without_improvement(
    compose_config: Compose,
    mnist: Dataset,
    values: list[float],
    settings: dict[str, float],
    epochs: int,
) -> None:
    setup = Setup(compose_config, mnist, "model=mlp100", f"training.epochs={len(values)}")
    given = iter(values)
    callback = EarlyStopping(**settings)  # type: ignore[arg-type]
    training = Training(setup.images, setup.indices, setup.recipe)
    train(setup.state, training, lambda model: {"validation_loss": next(given)}, [callback])
    assert setup.state.epoch == epochs
    assert (setup.state.stopped is not None) == (epochs < len(values))


def test_a_run_that_stops_early_says_so_and_resumes_bit_by_bit(tmp_path: Path) -> None:
    results = run_experiment(composed(*RUN), tmp_path / "whole")
    (row,) = results["folds"]
    epochs = len(row["epochs"])
    assert 3 <= epochs < 40
    best = min(row["epochs"], key=lambda one: one["validation_loss"])
    assert best["epoch"] == epochs - 2
    reason = f"validation_loss was best, {best['validation_loss']:.4g}, 2 epochs before"
    assert row["stopped"] == reason
    assert f"stopped after {epochs} epochs: {reason}" in summary_lines(results, tmp_path)
    with pytest.raises(Interrupted):  # in the middle of the last epoch
        run_experiment(composed(*RUN), tmp_path / "pieces", StopAfter(5 * (epochs - 1) + 2))
    run_experiment(composed(*RUN), tmp_path / "pieces")
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_the_last_epoch_is_no_early_end(tmp_path: Path) -> None:
    epochs = len(run_experiment(composed(*RUN), tmp_path / "long")["folds"][0]["epochs"])
    config = composed(*RUN, f"training.epochs={epochs}")
    assert "stopped" not in run_experiment(config, tmp_path / "short")["folds"][0]
    extended = composed(*RUN, f"training.epochs={epochs + 5}")
    (row,) = run_experiment(extended, tmp_path / "short")["folds"]
    assert len(row["epochs"]) == epochs
    assert row["stopped"].startswith("validation_loss was best")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cv.validation=0"], "there are no validation images; set cv=holdout"),
        (["cv=stratified_kfold"], "there are no validation images; set cv=holdout"),
        (["callbacks.early_stopping.monitor=test_loss"], "test images decide nothing"),
        (["callbacks.early_stopping.monitor=train_loss"], "a value on validation images"),
        (
            ["callbacks.early_stopping.monitor=validation_lose"],
            "monitor=validation_lose: allowed is one of: validation_loss, validation_accuracy",
        ),
        (["callbacks.early_stopping.patience=0"], "patience=0: allowed is a whole number"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    words = [word for word in RUN if "cv=" not in str(overrides) or not word.startswith("cv.")]
    config = composed(*words, *overrides)
    with pytest.raises(UserError, match=message):
        check_and_run(config, tmp_path)
    assert not list(tmp_path.iterdir())


class OwnColumn(Callback):
    """Adds a value on the validation images to the row."""

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        row["validation_own"] = -float(state.epoch)


class NoColumn(Callback):
    """Adds nothing."""

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Do nothing."""


@pytest.mark.parametrize("name", ["OwnColumn", "NoColumn"])
def test_a_column_of_another_callback_is_known_after_the_first_epoch(
    tmp_path: Path, name: str
) -> None:
    words = [word for word in RUN if "early_stopping" not in word]
    own = f"+callbacks.own._target_={__name__}.{name}"
    stop = f"+callbacks.stop._target_={EarlyStopping.__module__}.EarlyStopping"
    monitor = ("+callbacks.stop.monitor=validation_own", "+callbacks.stop.mode=max")
    config = composed(*words, "training.epochs=8", own, stop, *monitor)
    if name == "NoColumn":
        with pytest.raises(UserError, match=r"it has .*validation_loss, validation_accuracy\.$"):
            run_experiment(config, tmp_path)
        return
    (row,) = run_experiment(config, tmp_path)["folds"]
    assert len(row["epochs"]) == 6  # it falls from the first, and the patience is 5


def test_a_schedule_as_long_as_the_run_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(composed(*RUN, "scheduler=onecycle", "training.epochs=2"), tmp_path)
    told = capsys.readouterr().err
    assert "OneCycleLR spans all 2 epochs; if training stops early" in told

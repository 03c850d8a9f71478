"""Callbacks of the configuration: what they may do, and how their mistakes are reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.experiment.callbacks import CallbackFailed
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run.checkpoints import epoch_checkpoint, load_checkpoint
from mnist_exp.run.results import read_results
from mnist_exp.train import Callback, Row, Training, TrainState
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import KFOLD, SMALL, composed, outcome

HERE = "tests.experiment.test_callbacks"
RUN = (
    "model=mlp",
    "model.hidden_sizes=[32]",
    "cv.validation=100",
    "data.subset=100",
    "training.log_every=1",
    *SMALL,
)
DRAWN = ("plots.enabled=true", "plots.num_samples=1", "plots.dpi=50")


class RunningMean(Callback):
    """Mean of all losses so far: state, columns, a figure and a note at the end."""

    def __init__(self, column: str = "mean_loss") -> None:
        self.column = column
        self.losses: list[float] = []

    def on_train_start(self, state: TrainState, training: Training) -> None:
        self.indices = training.indices

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        assert set(indices.tolist()) <= set(self.indices.tolist())
        assert len(inputs) == len(indices)

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        self.losses.append(float(loss))

    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)

    def on_step_logged(self, state: TrainState, row: Row) -> None:
        assert row["loss"] == self.losses[-1]
        row[self.column] = self.mean()

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        row[self.column] = self.mean()

    def on_run_end(self, results: Mapping[str, Any], directory: Path) -> None:
        note = {"losses": self.losses, "accuracy": results["accuracy"]["mean"]}
        with (directory / f"{self.column}.json").open("x") as file:
            json.dump(note, file)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": torch.tensor(self.losses, dtype=torch.float64)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.losses = saved["losses"].tolist()

    def figures(self, folds: Sequence[Any]) -> dict[str, Any]:
        figure, axis = plt.subplots()
        for fold in folds:
            axis.plot([row[self.column] for row in fold.history])
        return {self.column: figure}


class StopsAt(Callback):
    def __init__(self, epoch: int = 0, batch: int = 0) -> None:
        self.epoch = epoch
        self.batch = batch

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        if self.batch == state.batch:
            state.stop("within the epoch")

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        if self.epoch == state.epoch:
            state.stop("good enough")


class Fails(Callback):
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.fail)

    def fail(self, *arguments: object) -> None:
        raise KeyError("lost")


class Odd(Callback):
    def state_dict(self) -> dict[str, Any]:
        return {"where": [{"path": Path()}]}


class Refuses(Callback):
    def check(self, state: TrainState, training: Training, folds: int) -> Sequence[str]:
        if folds > 1:
            raise UserError("callbacks.mine: one split only")
        return ["it may be slow"]


def nothing() -> None:
    pass


def mine(name: str, **settings: object) -> list[str]:
    return [
        f"+callbacks.mine._target_={HERE}.{name}",
        *(f"+callbacks.mine.{key}={value}" for key, value in settings.items()),
    ]


def rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("run", [RUN, (*KFOLD, "training.log_every=3", "cv.n_jobs=1")])
def test_state_columns_and_steps_resume_bit_by_bit(tmp_path: Path, run: tuple[str, ...]) -> None:
    config = composed(*run, *mine("RunningMean", column="loss_so_far"), *DRAWN)
    run_experiment(config, tmp_path / "whole")
    for checks in (2, 2, 5):
        with pytest.raises(Interrupted):
            run_experiment(config, tmp_path / "pieces", StopAfter(checks))
    with (tmp_path / "pieces" / "steps.jsonl").open("a") as file:  # of a killed run
        file.write('{"fold": 1, "epoch": 9, "step": 900, "loss": 0}\n{"step": 901, "epo')
    run_experiment(config, tmp_path / "pieces")
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")
    for name in ("steps.jsonl", "loss_so_far.json"):
        assert (tmp_path / "pieces" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert "loss_so_far" in rows(tmp_path / "whole" / "metrics.jsonl")[-1]
    assert "loss_so_far" in rows(tmp_path / "whole" / "steps.jsonl")[-1]
    assert (tmp_path / "whole" / "plots" / "loss_so_far.png").stat().st_size > 1000


@pytest.mark.slow
def test_folds_in_processes_have_callbacks_of_their_own(tmp_path: Path) -> None:
    config = composed(*KFOLD, "cv.n_jobs=2", *mine("RunningMean"))
    run_experiment(config, tmp_path / "parallel", side_by_side=True)
    config.cv.n_jobs = 1
    run_experiment(config, tmp_path / "serial")
    texts = [(tmp_path / kind / "mean_loss.json").read_text() for kind in ("parallel", "serial")]
    assert texts[0] == texts[1]


def test_steps_are_logged_every_so_often(tmp_path: Path) -> None:
    config = composed(*RUN, "training.log_every=3", "training.batch_size=20")  # 5 steps an epoch
    config.training.epochs = 2
    run_experiment(config, tmp_path / "run")
    steps = rows(tmp_path / "run" / "steps.jsonl")
    assert [(row["epoch"], row["step"]) for row in steps] == [(1, 3), (2, 6), (2, 9)]
    assert all(set(row) == {"epoch", "step", "loss", "accuracy", "lr"} for row in steps)
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [5, 10]
    config.training.log_every = None
    run_experiment(config, tmp_path / "silent")
    assert not (tmp_path / "silent" / "steps.jsonl").exists()
    weights = [
        outcome(tmp_path / name)["results"]["folds"][0]["weights_sha256"]
        for name in ("run", "silent")
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("stop", "epochs", "steps", "reason"),
    [({"epoch": 1}, 1, 5, "good enough"), ({"batch": 2}, 1, 2, "within the epoch")],
)
def test_a_callback_ends_the_training(
    tmp_path: Path, stop: dict[str, int], epochs: int, steps: int, reason: str
) -> None:
    config = composed(*RUN, "training.batch_size=20", *mine("StopsAt", **stop))
    run_experiment(config, tmp_path / "run")
    results = read_results(tmp_path / "run")
    assert results is not None
    (fold,) = results["folds"]
    assert fold["stopped"] == reason
    assert len(fold["epochs"]) == epochs
    assert fold["epochs"][-1]["step"] == steps
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    run_experiment(config, tmp_path / "run")  # nothing is left to train
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_stop_and_a_signal_at_once_lose_nothing(tmp_path: Path) -> None:
    config = composed(*RUN, "training.batch_size=20", *mine("StopsAt", batch=2))
    run_experiment(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_experiment(config, tmp_path / "pieces", StopAfter(2))
    run_experiment(config, tmp_path / "pieces")
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_end", "on_run_end", "figures"])
def test_an_error_in_a_callback_names_it_and_leaves_what_was_written(
    tmp_path: Path, hook: str
) -> None:
    drawn = DRAWN if hook == "figures" else ()
    config = composed(*RUN, *mine("Fails", hook=hook), *drawn)
    with pytest.raises(CallbackFailed, match=rf"^callbacks\.mine \(Fails\) failed in {hook}: Key"):
        run_experiment(config, tmp_path / "run")
    results = read_results(tmp_path / "run")
    assert results is not None
    assert results["status"] == "failed"
    assert "callbacks.mine (Fails)" in results["error"]
    if hook == "on_run_end":
        last = epoch_checkpoint(tmp_path / "run" / "checkpoints", config.training.epochs)
        assert load_checkpoint(last)["epoch"] == config.training.epochs
        assert len(rows(tmp_path / "run" / "metrics.jsonl")) == config.training.epochs


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (mine("RunningMean", colum="x"), r"callbacks\.mine: .*RunningMean: .*'colum'"),
        (mine("RunningMean", column=3), r"callbacks\.mine\.column=3: allowed is text"),
        (mine("nowhere"), r"callbacks\.mine\._target_=.*nowhere: is not a usable target"),
        (mine("nothing"), r"callbacks\.mine: makes a NoneType"),
        (["+callbacks.mine._target_=torch.nn.Identity"], r"callbacks\.mine: makes a Identity"),
        ([*mine("Refuses"), "cv=kfold", "cv.n_splits=2"], r"callbacks\.mine: one split only"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_is_written(
    tmp_path: Path, entry: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_experiment(composed(*SMALL, "data.subset=100", *entry), tmp_path / "run")
    assert list((tmp_path / "run").glob("*")) == []


def test_warnings_of_a_callback_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(composed(*RUN, *mine("Refuses")), tmp_path / "run")
    assert "warning: it may be slow" in capsys.readouterr().err


def test_a_state_that_a_checkpoint_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"callbacks\.mine\.state_dict\(\)\['where'\]\[0\]\['path'\]: is a Posix"
    ):
        run_experiment(composed(*RUN, *mine("Odd")), tmp_path / "run")

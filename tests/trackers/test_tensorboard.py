"""Event files, read by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trackers.conftest import FOLDS, Train

pytest.importorskip("tensorboard", reason="an extra: pip install tensorboard")

ARGUMENTS = ["tracker=tensorboard", "scheduler=constant"]


def read(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(directory / "tensorboard"), {"scalars": 0, "images": 0})
    reader.Reload()
    return reader


def series(reader: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_everything_of_a_run_is_there(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = train(*ARGUMENTS)
    reader = read(tmp_path / "run")
    history = results["folds"][0]["epochs"]
    assert series(reader, "validation_accuracy") == [
        (row["epoch"], pytest.approx(row["validation_accuracy"])) for row in history
    ]
    assert [step for step, _ in series(reader, "step/loss")] == [3, 6, 9, 12, 15, 18]
    assert series(reader, "test_accuracy")[-1][1] == pytest.approx(results["accuracy"]["mean"])
    assert "plots/training_curves" in reader.Tags()["images"]
    assert {"config/text_summary", "best/text_summary"} <= set(reader.Tags()["tensors"])
    text = reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"training.epochs": 2' in text
    hyper = reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.hidden_sizes" in hyper
    told = capfd.readouterr()
    assert told.err == ""
    lines = [line for line in told.out.splitlines() if "epoch " not in line]
    assert lines == [f"tracker TensorBoard: tensorboard --logdir {tmp_path / 'run'}"]


def test_an_extended_run_goes_on(train: Train, tmp_path: Path) -> None:
    train(*ARGUMENTS, "plots.enabled=false")
    train(*ARGUMENTS, "plots.enabled=false", "training.epochs=3")
    reader = read(tmp_path / "run")
    assert [step for step, _ in series(reader, "train_loss")] == [1, 2, 3]
    assert [step for step, _ in series(reader, "step/loss")] == list(range(3, 31, 3))


def test_folds_have_directories_of_their_own(train: Train, tmp_path: Path) -> None:
    results = train(*ARGUMENTS, *FOLDS, "plots.enabled=false")
    for fold in (1, 2):
        reader = read(tmp_path / f"run/fold_{fold}")
        assert len(series(reader, "train_loss")) == 2
    reader = read(tmp_path / "run")
    assert series(reader, "test_accuracy_std")[0][1] == pytest.approx(results["accuracy"]["std"])

"""Trackio's local database, read by its own functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trackers.conftest import FOLDS, Train

trackio = pytest.importorskip("trackio", reason="an extra: pip install trackio")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trackio's functions, on a directory of the test; its modules keep the path they found."""
    for name, module in list(sys.modules.items()):
        if name.startswith("trackio") and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "store")
        if name.startswith("trackio") and hasattr(module, "MEDIA_DIR"):
            monkeypatch.setattr(module, "MEDIA_DIR", tmp_path / "store" / "media")
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage


def test_everything_of_a_run_is_there(
    train: Train, tmp_path: Path, store: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    results = train("tracker=trackio", "tracker.trackio.patience=60")
    told = capfd.readouterr()
    assert told.err == ""
    lines = [line for line in told.out.splitlines() if "epoch " not in line]
    assert lines == ["tracker Trackio: trackio show --project mnist_exp"]
    (record,) = store.get_run_records("mnist_exp")
    assert record["name"] == "run"
    rows = store.get_logs("mnist_exp", "run")
    assert [row["step"] for row in rows if "step/loss" in row] == [3, 6, 9, 12, 15, 18]
    history = results["folds"][0]["epochs"]
    assert [row["train_loss"] for row in rows if "train_loss" in row] == [
        row["train_loss"] for row in history
    ]
    (final,) = [row for row in rows if "test_accuracy" in row]
    assert final["test_accuracy"] == results["accuracy"]["mean"]
    assert any("plots/training_curves" in row for row in rows)
    config = store.get_run_config("mnist_exp", "run")
    assert config["training.epochs"] == 2
    assert len(store.get_artifacts("mnist_exp")) == 1


def test_folds_and_the_run_over_them_are_a_group(train: Train, store: Any) -> None:
    train("tracker=trackio", "tracker.trackio.patience=60", "plots.enabled=false", *FOLDS)
    names = sorted(record["name"] for record in store.get_run_records("mnist_exp"))
    assert names == ["run", "run/fold_1", "run/fold_2"]
    groups = {store.get_run_config("mnist_exp", name)["_Group"] for name in names}
    assert groups == {"run"}


def test_an_extended_run_goes_on(train: Train, store: Any) -> None:
    more = ["tracker=trackio", "tracker.trackio.patience=60", "plots.enabled=false"]
    train(*more, "scheduler=constant")
    train(*more, "scheduler=constant", "training.epochs=3")
    assert len(store.get_run_records("mnist_exp")) == 1
    rows = store.get_logs("mnist_exp", "run")
    assert [row["step"] for row in rows if "train_loss" in row] == [1, 2, 3]


def test_no_server_is_started(tmp_path: Path) -> None:
    """A process that refuses to listen trains all the same."""
    code = """
import socket
def refuse(*arguments):
    raise AssertionError("a server was started")
socket.socket.listen = refuse
import sys
sys.argv = ["mnist_exp", *sys.argv[1:]]
from mnist_exp.__main__ import main
main()
"""
    settings = [
        *("model=mlp", "tracker=trackio", "data.subset=200", "plots.enabled=false"),
        *("training.epochs=1", f"hydra.run.dir={tmp_path / 'run'}"),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", code, *settings],
        cwd=tmp_path,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert (tmp_path / "other/mnist_exp.db").is_file()

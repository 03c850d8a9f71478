"""W&B's offline files, read back record by record; nothing is sent anywhere."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.errors import UserError
from mnist_exp.run.directory import check_links
from tests.trackers.conftest import FOLDS, Train

pytest.importorskip("wandb", reason="an extra: pip install wandb")

pytestmark = pytest.mark.slow
BLOCK, HEADER = 32768, 7  # the file is a LevelDB log, of blocks of records with headers


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_own"))


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        place += HEADER
        whole += content[place : place + length]
        place += length
        if kind in (1, 4):  # a whole record, or its last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def read(directory: Path) -> dict[str, Any]:
    """Return what the only offline run in a directory holds."""
    (path,) = directory.glob("wandb/offline-run-*/*.wandb")
    return read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": [], "config": {}, "summary": {}, "artifacts": [], "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            settings = record.run.config.update
            found["config"] |= {item.key: json.loads(item.value_json) for item in settings}
        elif kind == "history":
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found["rows"].append(row)
        elif kind == "summary":
            for item in record.summary.update:
                name = item.key or ".".join(item.nested_key)
                found["summary"][name] = json.loads(item.value_json)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(record.request.log_artifact.artifact)
    return found


def test_everything_of_a_run_is_there(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = train("tracker=wandb", "tracker.wandb.patience=60")
    told = capfd.readouterr()
    assert told.err == ""
    (line,) = [line for line in told.out.splitlines() if "epoch " not in line]
    assert line.startswith("tracker WandB: wandb sync ")
    found = read(tmp_path / "run")
    assert found["run"].project == "mnist_exp"
    assert found["run"].display_name == "run"
    assert found["config"]["training.epochs"] == 2
    steps = [row["step"] for row in found["rows"] if "step/loss" in row]
    assert steps == [3, 6, 9, 12, 15, 18]
    epochs = [(row["epoch"], row["train_loss"]) for row in found["rows"] if "train_loss" in row]
    history = results["folds"][0]["epochs"]
    assert epochs == [(row["epoch"], row["train_loss"]) for row in history]
    assert found["summary"]["test_accuracy"] == results["accuracy"]["mean"]
    assert any("plots/training_curves" in str(row) for row in found["rows"])
    assert [artifact.type for artifact in found["artifacts"]] == ["model"]
    assert found["exit"] == 0
    check_links(tmp_path / "run")  # such a directory is not resumed


def test_an_extended_run_has_the_same_identity(train: Train, tmp_path: Path) -> None:
    more = ["tracker=wandb", "tracker.wandb.patience=60", "plots.enabled=false"]
    train(*more, "scheduler=constant")
    train(*more, "scheduler=constant", "training.epochs=3")
    files = sorted(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    assert len({path.name for path in files}) == 1
    epochs = [row["epoch"] for path in files for row in read_file(path)["rows"] if "lr" in row]
    assert sorted(epochs) == [1, 2, 3]


def test_folds_and_the_run_over_them_are_a_group(train: Train, tmp_path: Path) -> None:
    train("tracker=wandb", "tracker.wandb.patience=60", "plots.enabled=false", *FOLDS)
    files = sorted(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    runs = [read_file(path)["run"] for path in files]
    assert sorted(run.display_name for run in runs) == ["run", "run/fold_1", "run/fold_2"]
    assert {run.run_group for run in runs} == {"run"}
    assert sorted(run.job_type for run in runs) == ["fold", "fold", "run"]


def test_an_unknown_account_is_said_before_anything_is_written(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(UserError, match="wandb login"):
        train("tracker=wandb", "tracker.wandb.mode=online")
    assert not list((tmp_path / "run").iterdir())

"""CSV files say what metrics.jsonl and steps.jsonl say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.trackers import CSV, TrackedRun
from tests.trackers.conftest import FOLDS, Train

ARGUMENTS = ["tracker=csv", "plots.enabled=false", "report.enabled=false", "scheduler=constant"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(rows: list[dict[str, str]], expected: list[dict[str, Any]]) -> None:
    assert len(rows) == len(expected) > 0
    for row, other in zip(rows, expected, strict=True):
        assert {key: float(value) for key, value in row.items()} == other


def test_of_one_training(train: Train, tmp_path: Path) -> None:
    results = train(*ARGUMENTS)
    run = tmp_path / "run"
    assert_same(table(run / "metrics.csv"), json_rows(run / "metrics.jsonl"))
    steps = [
        {key: value for key, value in row.items() if key != "epoch"}
        for row in json_rows(run / "steps.jsonl")
    ]
    assert_same(table(run / "steps.csv"), steps)
    (final,) = table(run / "results.csv")
    assert float(final["test_accuracy"]) == results["accuracy"]["mean"]


def test_of_a_training_that_is_extended(train: Train, tmp_path: Path) -> None:
    train(*ARGUMENTS)
    train(*ARGUMENTS, "training.epochs=3")
    run = tmp_path / "run"
    assert_same(table(run / "metrics.csv"), json_rows(run / "metrics.jsonl"))
    assert [int(row["step"]) for row in table(run / "steps.csv")] == list(range(3, 31, 3))


def test_of_folds_with_the_number_of_each(train: Train, tmp_path: Path) -> None:
    train(*ARGUMENTS, *FOLDS)
    run = tmp_path / "run"
    assert_same(table(run / "metrics.csv"), json_rows(run / "metrics.jsonl"))
    assert {row["fold"] for row in table(run / "steps.csv")} == {"1", "2"}


def test_steps_beyond_the_checkpoint_are_cut_and_later_columns_added(tmp_path: Path) -> None:
    first = CSV()
    first.start(TrackedRun(tmp_path))
    first.log_rows([({"step/loss": 1.0}, step) for step in (10, 20, 30)])
    second = CSV()
    second.start(TrackedRun(tmp_path, step=20))
    second.log_rows([({"step/loss": 0.5}, 30)])
    second.log_rows([({"step/loss": 0.4, "step/mine": 7}, 40)])
    assert table(tmp_path / "steps.csv") == [
        {"step": "10", "loss": "1.0", "mine": ""},
        {"step": "20", "loss": "1.0", "mine": ""},
        {"step": "30", "loss": "0.5", "mine": ""},
        {"step": "40", "loss": "0.4", "mine": "7"},
    ]


def test_a_link_in_the_run_directory_is_not_followed(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/steps.csv").symlink_to(victim)
    train(*ARGUMENTS)
    assert victim.read_text() == "mine"

"""Jobs that differ in their seed alone: their means, and sweep_by_seed.csv."""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest

from mnist_exp.run.over_seeds import over_seeds
from mnist_exp.run.sweep_jobs import Row
from mnist_exp.run.sweep_table import print_table, write_table
from mnist_exp.run.text_table import Share
from tests.run.test_sweep_table import of_accuracy, write_job

ACCURACIES = {("0.1", "0"): 0.5, ("0.1", "1"): 0.7, ("0.2", "0"): 0.9, ("0.2", "1"): None}
FOLD = {"fold": 1, "accuracy": 0.5, "loss": 1.0, "wall_seconds": 1.0, "selected_epoch": 1}


def write_jobs(directory: Path, validation: bool = False) -> None:
    """Write the directories of four jobs, of which the last has failed."""
    for number, ((rate, seed), accuracy) in enumerate(ACCURACIES.items()):
        overrides = [f"optimizer.lr={rate}", f"seed={seed}"]
        if accuracy is None:
            write_job(directory / str(number), overrides, status="failed", error="no")
            continue
        results = of_accuracy(accuracy) | {"wall_seconds": 2.0 + number}
        if validation:
            epochs = [{"epoch": 1, "validation_accuracy": accuracy - 0.1}]
            results["folds"] = [FOLD | {"epochs": epochs}]
        write_job(directory / str(number), overrides, **results)


def read_by_seed(directory: Path) -> list[dict[str, str]]:
    with (directory / "sweep_by_seed.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_setting_has_a_row_with_mean_and_spread_and_names_the_seeds_it_lacks(
    tmp_path: Path,
) -> None:
    write_jobs(tmp_path, validation=True)
    write_table(tmp_path)
    first, second = read_by_seed(tmp_path)
    assert first == {
        "optimizer.lr": "0.2", "n": "1", "n_asked": "2", "missing": "1",
        "accuracy": "0.9", "std_accuracy": "",
        "validation_accuracy": "0.8", "std_validation_accuracy": "", "wall_seconds": "4.0",
    }  # fmt: skip
    assert (second["optimizer.lr"], second["n"], second["missing"]) == ("0.1", "2", "")
    assert float(second["accuracy"]) == pytest.approx(0.6)
    assert float(second["std_accuracy"]) == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert float(second["validation_accuracy"]) == pytest.approx(0.5)
    assert second["wall_seconds"] == "2.5"


def test_without_what_ranks_the_jobs_the_settings_keep_their_order(tmp_path: Path) -> None:
    write_jobs(tmp_path)
    write_table(tmp_path)
    assert [row["optimizer.lr"] for row in read_by_seed(tmp_path)] == ["0.1", "0.2"]


def test_a_sweep_over_the_seed_alone_has_one_row(tmp_path: Path) -> None:
    for seed in range(3):
        write_job(tmp_path / str(seed), ["model=mlp", f"seed={seed}"], **of_accuracy(seed / 4))
    write_table(tmp_path)
    (row,) = read_by_seed(tmp_path)
    assert (row["n"], float(row["accuracy"]), float(row["std_accuracy"])) == ("3", 0.25, 0.25)
    assert "model" not in row


def test_there_is_no_table_by_seed_where_the_seed_was_not_swept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_job(tmp_path / str(number), [f"lr={number}", "seed=1"], **of_accuracy(0.5))
    print_table(write_table(tmp_path))
    assert not (tmp_path / "sweep_by_seed.csv").exists()
    assert "over seeds" not in capsys.readouterr().out


def test_the_terminal_shows_the_means_below_the_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(tmp_path)
    print_table(write_table(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("mean +- sample standard deviation over seeds:")
    assert lines[start - 1].startswith("4 jobs: 3 completed, 1 failed")
    assert [line.split() for line in lines[start + 1 :]] == [
        ["optimizer.lr", "accuracy", "seconds", "n", "missing", "seeds"],
        ["0.1", "60.00%", "+-", "14.14%", "2.5", "2"],
        ["0.2", "90.00%", "4.0", "1", "of", "2", "1"],
    ]


def rows_of(axes: dict[str, list[str]]) -> list[Row]:
    """Return a completed job per combination of values; job n has accuracy n / 100."""
    return [
        Row(str(n), dict(zip(axes, values, strict=True)), "completed", n / 100, None, 1.0, "")
        for n, values in enumerate(product(*axes.values()))
    ]


def test_a_mean_lacks_what_one_of_its_jobs_did_not_measure() -> None:
    rows = rows_of({"seed": ["0", "1", "2"]})
    f1 = {"test_f1": Share(0.5)}
    rows[:2] = [replace(row, metrics=f1) for row in rows[:2]]
    (two,) = over_seeds(rows[:2])
    mean, std = two.over(lambda row: row.metrics.get("test_f1"))
    assert (mean, std) == (0.5, 0.0)
    assert isinstance(mean, Share)
    assert isinstance(std, Share)
    (three,) = over_seeds(rows)
    assert three.over(lambda row: row.metrics.get("test_f1")) == (None, None)
    assert three.over(lambda row: row.accuracy) == (pytest.approx(0.01), pytest.approx(0.01))


def test_jobs_that_were_not_given_a_setting_are_a_group_of_their_own() -> None:
    rows = [*rows_of({"lr": ["1"], "seed": ["0", "1"]}), *rows_of({"seed": ["0", "1"]})]
    assert [(g.settings, len(g.jobs)) for g in over_seeds(rows)] == [
        ({"lr": "1"}, 2),
        ({"lr": ""}, 2),
    ]
    assert [len(g.jobs) for g in over_seeds(rows, settings=[])] == [4]


def test_anything_with_overrides_status_and_accuracy_is_grouped() -> None:
    @dataclass(frozen=True)
    class Run:
        overrides: dict[str, str]
        status: str
        accuracy: float | None

    states = ("completed", "running", "completed")
    runs = [Run({"seed": str(n)}, status, 0.5 if n else None) for n, status in enumerate(states)]
    (group,) = over_seeds(runs)
    assert (group.jobs, group.missing, group.n) == (runs[2:], runs[:2], "1 of 3")

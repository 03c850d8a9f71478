"""A recipe's table over seeds: each mean states its number of runs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.app.commands import seeds as recipe_over_seeds
from mnist_exp.run.results import write_results
from mnist_exp.run.sweep_jobs import Row
from tests.helpers.fault_injection import command

FACTS = {"parameters": 79510, "selection_rule": "last epoch", "wall_seconds": 3.0}


def seeds(directory: Path, accuracies: list[float | None]) -> list[Row]:
    """Write one job per seed and return the rows; an accuracy of None makes a failed job."""
    rows = []
    for seed, accuracy in enumerate(accuracies):
        status = "failed" if accuracy is None else "completed"
        results: dict[str, Any] = {"status": status, **FACTS}
        if accuracy is not None:
            results["accuracy"] = {"mean": accuracy, "std": None, "n": 1}
        write_results(directory / str(seed), results)
        rows.append(Row(str(seed), {"seed": str(seed)}, status, accuracy, None, 3.0, ""))
    return rows


def test_a_mean_of_fewer_seeds_states_their_number(tmp_path: Path) -> None:
    rows = seeds(tmp_path, [0.9, None, 0.8])
    line = recipe_over_seeds.table_row("mlp100", tmp_path, rows, [])
    assert "| 85.00% ± 7.07% | 2 of 3 |" in line
    assert "seeds mlp100 --seeds 3" in line  # as requested
    line = recipe_over_seeds.table_row("mlp100", tmp_path, rows[:1], [])
    assert "| 90.00% | 1 |" in line
    assert "none completed | 0 of 1" in recipe_over_seeds.table_row("m", tmp_path, rows[1:2], [])


def test_a_share_measured_besides_stands_by_the_accuracy(tmp_path: Path) -> None:
    for seed, share in enumerate([0.8, 0.9]):
        metrics = {
            "shifted": {"mean": share, "std": None, "n": 1, "percent": True},
            "nll": {"mean": 0.1, "std": None, "n": 1},
        }
        accuracy = {"mean": 0.7, "std": None, "n": 1}
        facts = {"status": "completed", **FACTS, "accuracy": accuracy, "metrics": metrics}
        write_results(tmp_path / str(seed), facts)
    rows = [Row(str(n), {"seed": str(n)}, "completed", 0.7, None, 3.0, "") for n in (0, 1)]
    line = recipe_over_seeds.table_row("mlp", tmp_path, rows, ["metrics=shifted"])
    assert "| 70.00% ± 0.00%; shifted 85.00% ± 7.07% | 2 |" in line


@pytest.mark.parametrize(
    ("name", "overrides", "images"),
    [
        ("memristor", [], "validation images"),
        ("memristor", ["cv=none", "metrics=[shifted,nll]", "plots.dpi=60"], "validation images"),
        ("memristor", ["optimizer.lr_pos=0.1"], ""),
        ("memristor", ["augmentation=none"], ""),
        ("cnn21k", [], "validation images"),
        ("cnn20k", [], "validation images"),
        ("cnn20k_fast", [], "validation images"),
        ("cnn21k_published", [], ""),
    ],
)
def test_the_table_says_which_images_chose_the_settings(
    name: str, overrides: list[str], images: str, tmp_path: Path
) -> None:
    line = recipe_over_seeds.table_row(name, tmp_path, seeds(tmp_path, [0.9]), overrides)
    assert f"| last epoch | {images} | 3 |" in line


def test_two_that_start_in_one_second_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "2026-11-27-12-00-00")

    def refused(words: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        directories.append(next(word for word in words if word.startswith("hydra.sweep.dir=")))
        if len(directories) == 1:  # the other starts before this one ends
            assert recipe_over_seeds.run_seeds("mlp", 1, [], Path("seeds")) == (None, 2)
        return subprocess.CompletedProcess(words, 2)

    directories: list[str] = []
    monkeypatch.setattr(subprocess, "run", refused)
    assert recipe_over_seeds.run_seeds("mlp", 1, [], Path("seeds")) == (None, 2)
    first = "hydra.sweep.dir=seeds/2026-11-27-12-00-00-mlp"
    assert directories == [first, f"{first}-2"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--directory=outputs/reproduce/"),
        (["--directory", "outputs/mine"], "--directory=outputs/mine/"),
        (["hydra.sweep.dir=mine"], "each recipe has its own directory; give --directory DIR"),
    ],
)
def test_where_it_may_not_write_it_says_what_to_give(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "outputs").touch()  # no directory, so none can be made in it
    code, output = command("seeds", "mlp", *arguments, cwd=tmp_path)
    assert code == 2
    assert told in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_failing_seed_is_named_and_sets_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    arguments = ["mlp", "--seeds", "1", "plots.enabled=false", "report.enabled=false"]
    assert recipe_over_seeds.main([*arguments, "data.subset=3"]) == 1
    told = capfd.readouterr()
    assert "mlp seed=0: failed data.subset=3: allowed is 10" in told.err
    (made,) = Path("outputs/reproduce").iterdir()
    assert "| none completed | 0 of 1 |" in told.out
    assert "Traceback" not in told.err
    assert recipe_over_seeds.main([*arguments, "data.subse=3"]) == 2
    told = capfd.readouterr()
    assert "did you mean data.subset?" in told.err
    assert "Traceback" not in told.err
    assert list(Path("outputs/reproduce").iterdir()) == [made]  # what was refused leaves nothing

"""Sweeps: the table and the plot of all jobs, from a real sweep and from job directories."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from omegaconf import OmegaConf

from mnist_exp.plots import search as search_plots
from mnist_exp.plots import sweep as sweep_plots
from mnist_exp.run import sweep_table as sweep
from mnist_exp.run.results import write_results
from mnist_exp.run.sweep_jobs import Row, read_jobs
from tests.helpers.fault_injection import KFOLD, command, few_images

Swept = tuple[int, str, Path]  # exit code, output, directory


@pytest.fixture(scope="module")
def asymmetry(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Run the preset lr_asymmetry at a small scale; half of its jobs have too few images."""
    directory = tmp_path_factory.mktemp("sweep")
    small = [text for text in KFOLD[1:] if not text.startswith("data.subset")]
    swept = ["optimizer.lr_pos=0.05,0.2", "data.subset=3,100"]
    arguments = (*few_images(), "experiment=lr_asymmetry", *small, "training.epochs=1", *swept)
    arguments = (*arguments, "optimizer.lr_neg=0.1")
    code, output = command(*arguments, "hydra.sweep.dir=s", cwd=directory)
    return code, output, directory / "s"


def read_csv(sweep_dir: Path) -> list[dict[str, str]]:
    with (sweep_dir / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_of_all_jobs(asymmetry: Swept) -> None:
    _, output, directory = asymmetry
    rows = read_csv(directory)
    assert list(rows[0])[:3] == ["job", "optimizer.lr_pos", "data.subset"]
    for row in rows[:2]:
        results = json.loads((directory / row["job"] / "results.json").read_text())
        assert row["status"] == results["status"] == "completed"
        assert float(row["accuracy"]) == results["accuracy"]["mean"]
        assert float(row["std_accuracy"]) == results["accuracy"]["std"]
        assert float(row["wall_seconds"]) == results["wall_seconds"]
        best = "{mean:.2%} +- {std:.2%}".format(**results["accuracy"])
        assert any(best in line and "completed" in line for line in output.splitlines())
    assert float(rows[0]["accuracy"]) >= float(rows[1]["accuracy"])


def test_failed_jobs_stop_no_others_and_are_in_the_table_with_their_error(asymmetry: Swept) -> None:
    code, output, directory = asymmetry
    failed = read_csv(directory)[2:]
    assert [row["job"] for row in failed] == ["0", "2"]
    assert {row["status"] for row in failed} == {"failed"}
    assert all("data.subset=3" in row["error"] for row in failed)
    assert "4 jobs: 2 completed, 2 failed" in output
    assert code == 1


def test_a_sweep_ends_with_a_picture(asymmetry: Swept) -> None:
    picture = imread(asymmetry[2] / "sweep.png")
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


def test_reading_and_writing_the_table_needs_no_heavy_package() -> None:
    code = (
        "import sys, mnist_exp.run.sweep_table; "
        "print(sorted({'torch', 'matplotlib'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def write_job(directory: Path, overrides: Sequence[str], **results: Any) -> None:
    (directory / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([*overrides]), directory / ".hydra" / "overrides.yaml")
    if results:
        write_results(directory, {"status": "completed", **results})


FOLD = {"fold": 1, "accuracy": 0.5, "loss": 1.0, "wall_seconds": 1.0}


def of_accuracy(mean: float, std: float | None = None) -> dict[str, Any]:
    return {"accuracy": {"mean": mean, "std": std, "n": 1 if std is None else 2}}


ACCURACIES = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=15)  # each example writes files
@given(accuracies=ACCURACIES)
def test_every_job_has_one_row_and_the_best_on_held_out_folds_come_first(
    tmp_path_factory: pytest.TempPathFactory, accuracies: list[float | None]
) -> None:
    directory = tmp_path_factory.mktemp("jobs")
    for number, accuracy in enumerate(accuracies):
        outcome = {"status": "failed"} if accuracy is None else of_accuracy(accuracy, std=0.01)
        write_job(directory / str(number), ["model=mlp100", f"optimizer.lr={number}"], **outcome)
    rows = sweep.write_table(directory)
    known = [row.accuracy for row in rows if row.accuracy is not None]
    assert known == sorted(known, reverse=True)
    assert [row.accuracy for row in rows[: len(known)]] == known
    assert sorted(int(row.job) for row in rows) == list(range(len(accuracies)))
    for row, line in zip(rows, read_csv(directory), strict=True):
        assert row.accuracy == accuracies[int(row.job)]
        assert line["accuracy"] == ("" if row.accuracy is None else str(row.accuracy))
        assert line.get("optimizer.lr", "0") == line["job"] == row.job
        assert "model" not in line  # the same in all jobs


def test_jobs_without_an_accuracy_keep_the_order_in_which_they_ran(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_job(tmp_path / str(number), [f"seed={number}"])
    rows = read_jobs(tmp_path)
    assert [row.job for row in rows] == ["0", "2", "10"]
    assert {row.status for row in rows} == {"failed"}


def test_jobs_are_found_below_any_subdirectory_and_damaged_results_reported(tmp_path: Path) -> None:
    write_job(tmp_path / "lr=1" / "a", ["+extra.lr=1"], **of_accuracy(0.5, 0.1))
    write_job(tmp_path / "lr=2" / "b", ["+extra.lr=2"], **of_accuracy(0.6))
    results = tmp_path / "lr=2" / "b" / "results.json"
    results.write_text(results.read_text().replace("0.6", "0.9"))
    good, damaged = read_jobs(tmp_path)
    assert (good.job, good.overrides, good.accuracy, good.std) == (
        "lr=1/a",
        {"extra.lr": "1"},
        0.5,
        0.1,
    )
    assert (damaged.status, damaged.accuracy) == ("failed", None)
    assert "checksum" in damaged.error


def test_printed_errors_are_cut_and_those_in_the_file_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "first line\n" + "word " * 100
    write_job(tmp_path / "0", ["seed=0"], status="failed", error=error)
    sweep.print_table(sweep.write_table(tmp_path))
    printed = capsys.readouterr().out
    assert "first line word" in printed
    assert max(map(len, printed.splitlines())) < 200
    assert read_csv(tmp_path)[0]["error"] == error


@pytest.mark.slow
def test_a_sweep_prints_one_line_a_job(asymmetry: Swept) -> None:
    """Between the first line, with the directory, and the table; errors have lines of their own."""
    _, output, directory = asymmetry
    lines = output.splitlines()
    assert f"sweep of 4 jobs in {directory}" in lines
    of_jobs = [line for line in lines if line.startswith("[")]
    assert [line.partition(" ")[0] for line in of_jobs] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert of_jobs[0] == "[1/4] optimizer.lr_pos=0.05 data.subset=3 | failed | directory 0"
    results = json.loads((directory / "1" / "results.json").read_text())
    shown = "{mean:.2%} +- {std:.2%}".format(**results["accuracy"])
    assert f" | test accuracy {shown} | {results['wall_seconds']:.1f} s | directory 1" in of_jobs[1]
    assert not any(line.startswith("fold 1 | epoch") for line in lines)
    assert lines[-1] == f"runs, sweep.csv and sweep.png: {directory}"


def jobs(axes: dict[str, list[str]], failed: Sequence[int] = ()) -> list[Row]:
    """Return a row per combination of values; job n has accuracy n / 100."""
    return [
        Row(
            job=str(number),
            overrides=dict(zip(axes, values, strict=True)),
            status="failed" if number in failed else "completed",
            accuracy=None if number in failed else number / 100,
            std=None,
            wall_seconds=1.0,
            error="",
            validation=None if number in failed else number / 100,
        )
        for number, values in enumerate(product(*axes.values()))
    ]


def maps(rows: list[Row], names: list[str]) -> tuple[Any, list[np.ndarray]]:
    """Return the heat maps over ``names`` and the accuracies shown, one matrix per panel."""
    values = {name: sweep_plots.sorted_values(rows, name) for name in names}
    figure = sweep_plots.maps_figure(sweep_plots.gather_points(rows, names), values)
    arrays: list[Any] = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    return figure, [np.ma.filled(array, np.nan) for array in arrays]


def test_two_settings_make_a_heat_map_with_a_row_and_a_column_for_each_value() -> None:
    rows = jobs({"lr_pos": ["0.2", "0.1", "1"], "lr_neg": ["3", "20"]}, failed=[1])
    figure, (shown,) = maps(rows, ["lr_pos", "lr_neg"])
    # sorted by size: columns 0.1, 0.2, 1 and rows 3, 20
    np.testing.assert_array_equal(shown, [[0.02, 0.00, 0.04], [0.03, math.nan, 0.05]])
    (axis, _) = figure.axes  # the second is the colour bar
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.1", "0.2", "1"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["3", "20"]
    written = sorted(text.get_text() for text in axis.texts)
    assert written == ["0.00%", "2.00%", "3.00%", "4.00%", "5.00%", "failed"]
    (frame,) = axis.patches
    assert frame.get_xy() == (1.5, 0.5)  # of the best job


def test_three_settings_make_a_heat_map_for_each_value_of_the_third() -> None:
    axes = {"a": ["1", "2"], "b": ["1", "2"], "model": ["mlp", "cnn", "other"]}
    figure, panels = maps(jobs(axes), ["a", "b", "model"])
    assert len(panels) == 3
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles == ["model=mlp", "model=cnn", "model=other"]
    np.testing.assert_array_equal(panels[1], [[0.01, 0.07], [0.04, 0.10]])


def test_one_setting_makes_a_curve_that_marks_what_failed() -> None:
    rows = jobs({"lr": ["1", "0.01", "0.1", "10"]}, failed=[3])
    values = {"lr": sweep_plots.sorted_values(rows, "lr")}
    figure = sweep_plots.curve_figure(sweep_plots.gather_points(rows, ["lr"]), values)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    bars: Any = axis.containers[0]
    assert bars.lines[0].get_xydata().tolist() == [[0.01, 0.01], [0.1, 0.02], [1, 0.0]]
    assert [(text.get_position()[0], text.get_text()) for text in axis.texts] == [(10, "failed")]


def test_the_jobs_of_a_search_are_points_over_two_settings() -> None:
    rows = [
        replace(row, overrides={"lr": str(0.001 * 4**n), "width": str(20 + n), "model": "mlp"})
        for n, row in enumerate(jobs({"lr": [*"12345"]}, failed=[4]))
    ]
    values = {name: sweep_plots.sorted_values(rows, name) for name in ("lr", "width")}
    points = sweep_plots.gather_points(rows, ["lr", "width"])
    assert search_plots.is_scattered(points, values)
    axis = search_plots.scatter_figure(points, values).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    completed, failed, best = (np.asarray(drawn.get_offsets()) for drawn in axis.collections)
    np.testing.assert_allclose(completed, [[0.001 * 4**n, 20 + n] for n in range(4)])
    np.testing.assert_allclose(failed, [[0.256, 24]])
    np.testing.assert_allclose(best, [[0.064, 23]])
    grid = sweep_plots.gather_points(jobs({"a": [*"12"], "b": [*"123"]}), ["a", "b"])
    assert not search_plots.is_scattered(grid, {"a": [*"12"], "b": [*"123"]})


def test_jobs_that_differ_in_their_seed_alone_are_averaged() -> None:
    rows = jobs({"lr": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[5])
    points = sweep_plots.gather_points(rows, ["lr"])
    assert points["1",].accuracy == pytest.approx(0.01)
    assert points["1",].std == pytest.approx(0.01)  # sample standard deviation of 0, 0.01, 0.02
    assert points["2",].accuracy == pytest.approx(0.035)
    assert points["2",].status == "failed"


def test_a_mean_of_fewer_seeds_than_requested_states_their_number(tmp_path: Path) -> None:
    rows = jobs({"lr": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[5])
    points = sweep_plots.gather_points(rows, ["lr"])
    figure = sweep_plots.curve_figure(points, {"lr": ["1", "2"]})
    assert [text.get_text() for text in figure.axes[0].texts] == ["n 2 of 3"]
    rows = jobs({"a": ["1", "2"], "b": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[10])
    figure, _ = maps(rows, ["a", "b"])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert [text.splitlines()[-1] for text in written if "n " in text] == ["n 2 of 3"]
    title = drawn_title(rows, tmp_path)
    assert "12 jobs: 11 completed, 1 failed" in title
    assert "best by validation accuracy: 10.00% (n 2 of 3) on test images with a=2, b=2" in title
    assert "1 of 4 means lack a job" in title


def drawn_title(rows: list[Row], directory: Path) -> str:
    """Return the title of the figure that `draw` writes."""
    titles = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_plots, "write_png", lambda path, figure, dpi: titles.append(figure))
        sweep_plots.draw(rows, directory / "sweep.png")
    return " ".join(titles[0]._suptitle.get_text().split())


def test_the_best_is_chosen_by_validation_where_every_completed_job_has_it(tmp_path: Path) -> None:
    def job(number: int, test: float, validation: float | None) -> None:
        epochs = [
            {"epoch": 1, "validation_accuracy": 0.99},  # not the selected epoch
            {"epoch": 2, "validation_accuracy": validation},
        ]
        fold = FOLD | {"selected_epoch": 2, "epochs": epochs}
        results = of_accuracy(test) | {"folds": [fold]}
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **results)

    job(0, test=0.9, validation=0.5)
    job(1, test=0.8, validation=0.7)
    write_job(tmp_path / "2", ["lr=3"], status="failed", error="no")
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["1", "0", "2"]
    assert [line["validation_accuracy"] for line in read_csv(tmp_path)] == ["0.7", "0.5", ""]
    assert "best by validation accuracy: 80.00% on test images with lr=2" in drawn_title(
        rows, tmp_path
    )
    job(3, test=0.1, validation=None)  # no validation accuracy to compare
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["0", "1", "3", "2"]
    assert "best" not in drawn_title(rows, tmp_path)


def test_without_validation_images_no_job_is_called_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, accuracy in enumerate((0.1, 0.9)):
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **of_accuracy(accuracy))
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["0", "1"]  # as they ran, not by test accuracy
    sweep.print_table(rows)
    assert "none is called best, since test images must not choose: set cv=holdout" in (
        capsys.readouterr().out
    )
    assert "best" not in drawn_title(rows, tmp_path)
    assert all(point.score is None for point in sweep_plots.gather_points(rows, ["lr"]).values())


def test_the_best_of_k_fold_is_called_optimistic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, accuracy in enumerate((0.1, 0.9)):
        write_job(tmp_path / str(number), [f"lr={number + 1}"], **of_accuracy(accuracy, std=0.01))
    rows = sweep.write_table(tmp_path)
    assert [row.job for row in rows] == ["1", "0"]
    sweep.print_table(rows)
    note = "(optimistic, since it was selected on the same images)"
    assert f"the best first, by held-out accuracy {note}" in capsys.readouterr().out
    assert f"best by held-out accuracy: 90.00% {note} with lr=2" in drawn_title(rows, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"seed": ["0", "1"]},
        {"optimizer": ["sgd", "adam"]},
        {"optimizer": ["sgd", "adam"], "seed": ["0", "1"]},
        {"lr": [str(n) for n in range(1, 16)], "momentum": ["0.0", "0.9"]},
        {"a": ["1", "2"], "b": ["x", "y"], "c": ["[1,2]", "[3]"], "d": ["5", "6"]},
    ],
)
@pytest.mark.parametrize("all_failed", [False, True])
def test_any_sweep_is_drawn(tmp_path: Path, axes: dict[str, list[str]], all_failed: bool) -> None:
    count = math.prod(map(len, axes.values()))
    path = tmp_path / "sweep.png"
    sweep_plots.draw(jobs(axes, failed=range(count) if all_failed else []), path, dpi=40)
    assert imread(path).std() > 0


def test_nothing_is_drawn_where_no_setting_was_swept(tmp_path: Path) -> None:
    sweep_plots.draw(jobs({"lr": ["1"]}), tmp_path / "sweep.png")
    assert list(tmp_path.iterdir()) == []

"""Pictures of sweeps: what they draw, mark as best, and say of their means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from mnist_exp.plots import sweep as sweep_plots
from mnist_exp.plots.sweep_points import axis_label, short_labels
from mnist_exp.run.objective import Ranking, Score
from mnist_exp.run.sweep_jobs import Row

BY_VALIDATION = Ranking("accuracy", held_out=False, direction="maximize")
BY_HELD_OUT = Ranking("accuracy", held_out=True, direction="maximize")
BY_LOSS = Ranking("loss", held_out=False, direction="minimize")


def jobs(axes: dict[str, list[str]], failed: Sequence[int] = ()) -> list[Row]:
    """Return a row per combination of values; job n has accuracy n / 100, also on validation."""
    rows = []
    for number, values in enumerate(product(*axes.values())):
        overrides = dict(zip(axes, values, strict=True))
        row = Row(str(number), overrides, "failed", None, None, 1.0, "")
        if number not in failed:
            score = Score(number / 100, BY_VALIDATION)
            row = replace(row, status="completed", accuracy=number / 100, folds=1, score=score)
        rows.append(row)
    return rows


def with_folds(rows: list[Row], folds: int = 5) -> list[Row]:
    """Return the rows as those of k-fold, with a standard deviation of 1 %."""
    return [
        row if row.accuracy is None
        else replace(row, std=0.01, folds=folds, score=Score(row.accuracy, BY_HELD_OUT))
        for row in rows
    ]  # fmt: skip


def title_of(figure: Figure) -> str:
    assert figure._suptitle is not None  # type: ignore[attr-defined]
    return " ".join(figure._suptitle.get_text().split())  # type: ignore[attr-defined]


def maps(rows: list[Row], names: list[str]) -> tuple[Any, list[np.ndarray]]:
    """Return the heat maps over ``names`` and the accuracies shown, one matrix per panel."""
    figure = sweep_plots.sweep_figure(rows, names)
    arrays: list[Any] = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    return figure, [np.ma.filled(array, np.nan) for array in arrays]


def test_two_settings_make_a_heat_map_with_a_row_and_a_column_for_each_value() -> None:
    rows = jobs({"lr_pos": ["0.2", "0.1", "1"], "lr_neg": ["3", "20"]}, failed=[1])
    figure, (shown,) = maps(rows, ["lr_pos", "lr_neg"])
    # sorted by size: columns 0.1, 0.2, 1 and rows 3, 20
    np.testing.assert_array_equal(shown, [[0.02, 0.00, 0.04], [0.03, math.nan, 0.05]])
    (axis, bar) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.1", "0.2", "1"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["3", "20"]
    written = sorted(text.get_text() for text in axis.texts)
    assert written == ["0.00%", "2.00%", "3.00%", "4.00%", "5.00%", "failed"]
    (frame,) = axis.patches
    assert frame.get_xy() == (1.5, 0.5)  # of the best job
    assert bar.get_ylabel() == "test accuracy"


def test_three_settings_make_a_heat_map_for_each_value_of_the_third() -> None:
    axes = {"a": ["1", "2"], "b": ["1", "2"], "model": ["mlp", "cnn", "other"]}
    figure, panels = maps(jobs(axes), ["a", "b", "model"])
    assert len(panels) == 3
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles == ["model=mlp", "model=cnn", "model=other"]
    np.testing.assert_array_equal(panels[1], [[0.01, 0.07], [0.04, 0.10]])


def test_one_setting_makes_a_curve_that_marks_the_best_and_what_failed() -> None:
    rows = jobs({"lr": ["1", "0.01", "0.1", "10"]}, failed=[3])
    (axis,) = sweep_plots.sweep_figure(rows, ["lr"]).axes
    assert axis.get_xscale() == "log"
    bars: Any = axis.containers[0]
    assert bars.lines[0].get_xydata().tolist() == [[0.01, 0.01], [0.1, 0.02], [1, 0.0]]
    assert [(text.get_position()[0], text.get_text()) for text in axis.texts] == [(10, "failed")]
    np.testing.assert_allclose(np.asarray(axis.collections[-1].get_offsets()), [[0.1, 0.02]])


def test_the_jobs_of_a_search_are_points_over_two_settings() -> None:
    rows = [
        replace(row, overrides={"lr": str(0.001 * 4**n), "width": str(20 + n), "model": "mlp"})
        for n, row in enumerate(jobs({"lr": [*"12345"]}, failed=[4]))
    ]
    axis = sweep_plots.sweep_figure(rows, ["lr", "width"]).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    completed, failed, best = (np.asarray(drawn.get_offsets()) for drawn in axis.collections)
    np.testing.assert_allclose(completed, [[0.001 * 4**n, 20 + n] for n in range(4)])
    np.testing.assert_allclose(failed, [[0.256, 24]])
    np.testing.assert_allclose(best, [[0.064, 23]])
    _, (grid,) = maps(jobs({"a": [*"12"], "b": [*"123"]}), ["a", "b"])
    assert grid.shape == (3, 2)


def test_jobs_that_differ_in_their_seed_alone_are_averaged() -> None:
    rows = jobs({"lr": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[5])
    points = sweep_plots.gather_points(rows, ["lr"])
    assert points["1",].accuracy == pytest.approx(0.01)
    assert points["1",].std == pytest.approx(0.01)  # sample standard deviation of 0, 0.01, 0.02
    assert points["2",].accuracy == pytest.approx(0.035)
    assert points["2",].status == "failed"


def test_a_mean_of_fewer_seeds_than_requested_states_their_number() -> None:
    rows = jobs({"lr": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[5])
    figure = sweep_plots.sweep_figure(rows, ["lr"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["n 2 of 3"]
    rows = jobs({"a": ["1", "2"], "b": ["1", "2"], "seed": ["0", "1", "2"]}, failed=[10])
    figure, _ = maps(rows, ["a", "b"])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert [text.splitlines()[-1] for text in written if "n " in text] == ["n 2 of 3"]
    title = title_of(figure)
    assert "12 jobs: 11 completed, 1 failed" in title
    best = "framed: best by validation accuracy: 10.00% (n 2 of 3) on test images with a=2, b=2"
    assert best in title
    assert "1 of 4 means lack a job" in title


@pytest.mark.parametrize(
    ("folds", "seeds", "label"),
    [
        (1, ["0"], "test accuracy"),
        (5, ["0"], "held-out accuracy (mean ± sample std over 5 folds)"),
        (1, ["0", "1", "2"], "test accuracy (mean ± sample std over 3 seeds)"),
        (5, ["0", "1"], "held-out accuracy (mean ± sample std over 2 seeds of 5 folds each)"),
    ],
)
@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_the_accuracy_says_what_its_spread_is_over(
    names: list[str], folds: int, seeds: list[str], label: str
) -> None:
    rows = jobs({**{name: ["1", "2"] for name in names}, "seed": seeds})
    figure = sweep_plots.sweep_figure(with_folds(rows, folds) if folds > 1 else rows, names)
    assert " ".join(figure.axes[-1].get_ylabel().split()) == label


def test_a_setting_with_one_seed_left_has_no_spread_over_its_folds() -> None:
    """So that every ± of a picture is over the same."""
    rows = with_folds(jobs({"lr": ["1", "2"], "seed": ["0", "1"]}, failed=[3]))
    points = sweep_plots.gather_points(rows, ["lr"])
    assert points["2",].std is None
    assert points["1",].std == pytest.approx(0.01 / math.sqrt(2))
    points = sweep_plots.gather_points(rows[::2], ["lr"])  # one seed alone: over the folds
    assert (points["1",].std, points["2",].std) == (0.01, 0.01)


def test_a_sweep_over_the_seed_alone_shows_mean_and_spread() -> None:
    figure = sweep_plots.sweep_figure(jobs({"seed": ["0", "1", "2"]}, failed=[2]), ["seed"])
    assert "mean ± sample std over 2 of 3 seeds: 0.50% ± 0.71% (band)" in title_of(figure)
    assert "best" not in title_of(figure)  # to choose a seed means nothing
    assert not any(isinstance(drawn, PathCollection) for drawn in figure.axes[0].collections)


def test_the_best_follows_the_objective_and_the_colour_is_still_accuracy() -> None:
    rows = [
        replace(row, score=Score(0.1 + 0.3 * int(row.job), BY_LOSS))
        for row in jobs({"a": ["1", "2"], "b": ["1", "2"]})
    ]
    figure, (shown,) = maps(rows, ["a", "b"])
    assert shown[1, 1] == 0.03
    (frame,) = figure.axes[0].patches
    assert frame.get_xy() == (-0.5, -0.5)  # of the smallest loss, which is the first job's
    title = "framed: best by validation loss (lowest, 0.1): 0.00% on test images with a=1, b=1"
    assert title in title_of(figure)


def test_the_best_of_k_fold_is_called_optimistic() -> None:
    figure = sweep_plots.sweep_figure(with_folds(jobs({"lr": ["1", "2"]})), ["lr"])
    note = "(optimistic, since it was selected on the same images)"
    assert f"circled: best by held-out accuracy: 1.00% {note} with lr=2" in title_of(figure)


def test_nothing_is_marked_best_where_a_job_has_no_objective() -> None:
    first, *others = jobs({"lr": ["1", "2", "3"]})
    figure = sweep_plots.sweep_figure([replace(first, score=None), *others], ["lr"])
    assert "best" not in title_of(figure)
    assert not any(isinstance(drawn, PathCollection) for drawn in figure.axes[0].collections)


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("seed", "seed"),
        ("model", "model"),
        ("training.batch_size", "batch size (training.batch_size)"),
        ("constraint.W_min", "W_min (constraint.W_min)"),
        ("optimizer.lr", "learning rate (optimizer.lr)"),
        ("optimizer.lr_pos", "rate of potentiation (optimizer.lr_pos)"),
    ],
)
def test_axes_are_named_as_a_person_would(key: str, label: str) -> None:
    assert axis_label(key, inches=6) == label
    lines = axis_label(key, inches=2).splitlines()
    assert " ".join(lines) == label
    assert max(map(len, lines)) <= max(23, len(key) + 2)


def test_long_values_are_shortened_and_stay_distinct() -> None:
    same_ends = ["a" * 12 + middle + "b" * 40 for middle in ("1", "2", "3")]
    labels = short_labels(same_ends)
    assert len({*labels}) == 3
    assert max(map(len, short_labels(["short", "x" * 50 + "y"]))) <= 24
    assert short_labels(["0.30000000000000004", "1"]) == ["0.3", "1"]
    assert short_labels(["", "mlp"]) == ["default", "mlp"]


def overlaps(texts: Sequence[Any], figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts drawn over each other, as rotated boxes seen along the axis."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [
        (one, other)
        for (one, a), (other, b) in pairwise(boxes)
        if a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1
    ]


@pytest.mark.parametrize(
    "values",
    [
        [str(0.01 * n) for n in range(1, 13)],
        [str(0.1 + 0.001 * n) for n in range(5)] + ["2"],  # close together on a long axis
        [str(1e-4 * 3**n) for n in range(9)],
        [str(n) for n in range(40)],
    ],
    ids=["twelve", "close", "log", "many"],
)
def test_numbers_at_an_axis_do_not_collide(values: list[str]) -> None:
    figure = sweep_plots.sweep_figure(jobs({"optimizer.lr": values}), ["optimizer.lr"])
    labels = figure.axes[0].get_xticklabels()
    if not labels[0].get_rotation():
        assert overlaps(labels, figure) == []
    starts = [text.get_window_extent().x1 for text in labels if text.get_text()]
    height = 10 * figure.dpi / 72  # pixels of a text of 10 points
    assert all(b - a > height for a, b in pairwise(starts))
    figure, _ = maps(jobs({"a": values, "b": values[:2]}), ["a", "b"])
    starts = [text.get_window_extent().x1 for text in figure.axes[0].get_xticklabels()]
    assert all(b - a > height for a, b in pairwise(starts))


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

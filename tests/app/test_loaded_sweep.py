"""`load_sweep`: the jobs of a sweep, the best run and the spread over seeds."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from mnist_exp import load_sweep
from mnist_exp.errors import UserError
from tests.run.test_sweep_table import of_accuracy, write_job

FINISHED = Path(__file__).parents[1] / "old_runs" / "finished"


def records(table: Any) -> list[dict[str, Any]]:
    """Return a table's rows, whether or not pandas is installed; what is missing is None."""
    rows = table if isinstance(table, list) else table.to_dict("records")
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]


def test_a_sweep_gives_rows_a_table_and_the_mean_over_seeds(tmp_path: Path) -> None:
    accuracies = {("0.1", 0): 0.5, ("0.1", 1): 0.7, ("0.2", 0): 0.9}
    for number, ((rate, seed), accuracy) in enumerate(accuracies.items()):
        overrides = [f"optimizer.lr={rate}", f"seed={seed}"]
        write_job(tmp_path / str(number), overrides, **of_accuracy(accuracy, std=0.01))
    write_job(tmp_path / "3", ["optimizer.lr=0.2", "seed=1"], status="failed", error="no")
    sweep = load_sweep(tmp_path)
    assert [row.job for row in sweep.rows] == ["2", "1", "0", "3"]
    columns = ("optimizer.lr", "accuracy", "std_accuracy", "n", "n_asked", "missing")
    by_seed = [tuple(row[column] for column in columns) for row in records(sweep.over_seeds())]
    spread = pytest.approx(statistics.stdev([0.5, 0.7]))
    assert by_seed == [(0.2, 0.9, None, 1, 2, "1"), (0.1, pytest.approx(0.6), spread, 2, 2, "")]
    table = records(sweep.table)
    assert [row["job"] for row in table] == [*"2103"]
    assert (table[0]["optimizer.lr"], table[0]["seed"], table[3]["error"]) == (0.2, 0, "no")
    assert repr(sweep).endswith("4 jobs, 3 completed, 1 failed>")


def test_the_best_run_is_loaded(tmp_path: Path) -> None:
    shutil.copytree(FINISHED, tmp_path / "0")
    write_job(tmp_path / "1", ["seed=1"], status="failed", error="no")
    sweep = load_sweep(tmp_path)
    best = sweep.best
    assert [run.directory for run in sweep.runs] == [tmp_path / "0"]
    assert best.directory == tmp_path / "0"
    assert best.results["status"] == "completed"


def test_what_holds_no_sweep_or_no_completed_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such directory"):
        load_sweep(tmp_path / "missing")
    with pytest.raises(UserError, match="holds no sweep"):
        load_sweep(tmp_path)
    write_job(tmp_path / "0", ["seed=1"], status="failed", error="no")
    with pytest.raises(UserError, match=r"no job is completed \(1 failed\)"):
        _ = load_sweep(tmp_path).best


def test_test_images_do_not_choose(tmp_path: Path) -> None:
    write_job(tmp_path / "0", ["seed=0"], **of_accuracy(0.5))
    with pytest.raises(UserError, match="has no best run, since a completed job has no validation"):
        _ = load_sweep(tmp_path).best

"""What training on devices cost, from the epochs to results.json and the lines printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run.report import summary_lines
from mnist_exp.run.training_cost import training_cost
from mnist_exp.schema import check
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import SMALL, composed

RUN = (
    "model=mlp", "model.hidden_sizes=[16]", "constraint=memristor", "data.subset=100",
    *SMALL,
)  # fmt: skip
COUNTED = (
    "constraint/cost=counted", "constraint.cost.endurance=1e6",
    "constraint.cost.energy_per_pulse=1e-12", "constraint.cost.time_per_read=1e-7",
)  # fmt: skip
FOLDS = ("cv=stratified_kfold", "cv.n_splits=2")


def run(directory: Path, *overrides: str, **settings: Any) -> dict[str, Any]:
    return run_experiment(composed(*RUN, *overrides), directory, **settings)


def test_an_epoch_reads_every_array_for_every_image_and_evaluates(tmp_path: Path) -> None:
    split = ("cv=holdout", "cv.validation=20", "training.epochs=2", "plots.enabled=true")
    results = run(tmp_path, *COUNTED, *split, "training.test_every_epoch=true")
    (fold,) = results["folds"]
    images, evaluated, lines = 100, 20 + 200, (784 + 16) + (16 + 10)
    for epoch, row in enumerate(fold["epochs"], start=1):
        assert row["cost_reads_forward"] == 2 * images * epoch  # two layers
        assert row["cost_reads_backward"] == images * epoch  # not of the first
        assert row["cost_reads_evaluation"] == 2 * evaluated * epoch  # validation and test
        assert row["cost_conversions"] == epoch * ((images + evaluated) * lines + images * 26)
    assert fold["cost"] == training_cost(fold["epochs"])
    assert fold["cost"]["endurance_used_max"] == fold["cost"]["pulses_max"] / 1e6
    assert results["cost"]["pulses"] == {"mean": fold["cost"]["pulses"], "std": None, "n": 1}
    printed = "\n".join(summary_lines(results, tmp_path))
    assert "write pulses (" in printed
    assert (
        f"estimate by constraint.cost's constants: {fold['cost']['energy_estimate']:.3g} J, "
        in printed
    )
    assert (tmp_path / "plots" / "device_pulses.png").stat().st_size > 1000


def test_a_run_in_pieces_costs_the_same_and_counting_changes_no_weight(tmp_path: Path) -> None:
    split = ("cv=holdout", "cv.validation=0", "training.batch_size=10", "training.epochs=2")
    whole = run(tmp_path / "whole", *COUNTED, *split)
    with pytest.raises(Interrupted):
        run(tmp_path / "pieces", *COUNTED, *split, signals=StopAfter(7))
    pieces = run(tmp_path / "pieces", *COUNTED, *split)
    off = run(tmp_path / "off", *split)
    costs = [[training_cost([row]) for row in r["folds"][0]["epochs"]] for r in (whole, pieces)]
    assert costs[0] == costs[1]
    assert costs[0][0]["pulses"] > 0
    shas = [r["folds"][0]["weights_sha256"] for r in (whole, pieces, off)]
    assert len({*shas}) == 1
    assert "cost" not in off
    assert not any("pulses" in line for line in summary_lines(off, tmp_path))


@pytest.mark.slow
def test_folds_in_processes_cost_the_same(tmp_path: Path) -> None:
    serial = run(tmp_path / "serial", *COUNTED, *FOLDS, "cv.n_jobs=1")
    parallel = run(tmp_path / "parallel", *COUNTED, *FOLDS, "cv.n_jobs=2", side_by_side=True)
    assert [f["cost"] for f in serial["folds"]] == [f["cost"] for f in parallel["folds"]]
    assert serial["cost"] == parallel["cost"]
    assert serial["cost"]["pulses"]["n"] == 2
    assert "cost of training a fold: " in "\n".join(summary_lines(serial, tmp_path))


def test_every_bad_constant_gets_a_line_before_anything_is_written() -> None:
    bad = ["constraint.cost.endurance=0", "constraint.cost.energy_per_read=-1"]
    with pytest.raises(UserError) as refused:
        check(composed(*RUN, *COUNTED, *bad))
    assert str(refused.value).splitlines() == [
        "constraint.cost.endurance=0: allowed is null or a number, above 0",
        "constraint.cost.energy_per_read=-1: allowed is null or a number, at least 0",
    ]

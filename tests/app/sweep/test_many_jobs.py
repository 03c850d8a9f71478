"""Many jobs in one process: each as if alone, and no work that grows with their number."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mnist_exp.app.sweep.pace import Pace, pace_of
from mnist_exp.callbacks.sweep_place import SweepPlace, time_left
from mnist_exp.experiment import first_step
from mnist_exp.experiment.run import run_experiment
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import hash_config, training_config
from mnist_exp.run.sweep_record import AskedJob, SweepRecord, read_sweep, write_sweep
from tests.helpers.fault_injection import SMALL, command, composed, few_images, outcome, status

MLP = ("model=mlp", "cv=none", "data.subset=100", "training.epochs=3", *SMALL[1:])
NO_DECAY = "optimizer.weight_decay=0"
DEFAULT_PLOTS = "plots.enabled=null"


def test_a_job_among_others_gives_what_it_gives_alone_and_a_wrong_one_is_refused(
    tmp_path: Path,
) -> None:
    same = (*few_images(), *MLP[:2], "data.subset=100", *SMALL, "training.epochs=1")
    swept = ("seed=0,1", "optimizer.lr=0.1,0")
    code, output = command("-m", *same, *swept, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert code == 1, output
    states = [status(tmp_path / "sweep" / str(number)) for number in range(4)]
    assert [state for state, _ in states] == ["completed", "failed"] * 2
    assert all("nothing is trained" in error for _, error in states[1::2])
    refused = [path.name for path in (tmp_path / "sweep" / "3").iterdir()]
    assert not {"checkpoints", "metrics.jsonl", "config.yaml"}.intersection(refused)
    alone = ("optimizer.lr=0.1", "seed=1", "hydra.run.dir=alone")
    code, output = command(*same, *alone, cwd=tmp_path)
    assert code == 0, output
    assert outcome(tmp_path / "sweep" / "2") == outcome(tmp_path / "alone")
    assert len((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize(
    ("job", "asked", "pictures", "kept"),
    [
        (None, (DEFAULT_PLOTS,), True, 3),
        (SweepPlace(0, 2), (DEFAULT_PLOTS,), False, 1),
        (SweepPlace(0, 2), ("plots.enabled=true", "checkpoints.keep=2"), True, 2),
    ],
)
def test_a_job_draws_nothing_and_keeps_one_checkpoint_unless_asked_for_more(
    tmp_path: Path, job: SweepPlace | None, asked: tuple[str, ...], pictures: bool, kept: int
) -> None:
    config = composed(*MLP, "plots.dpi=10", "plots.num_samples=1", *asked)
    run_experiment(config, tmp_path, sweep_job=job)
    assert (tmp_path / "plots").exists() == pictures
    names = {path.name for path in (tmp_path / "checkpoints").glob("*.pt")}
    assert names - {"best.pt"} == {f"epoch_{epoch:05}.pt" for epoch in range(4 - kept, 4)}
    assert "best.pt" in names


def test_a_preset_s_pictures_are_drawn_in_a_sweep_too(tmp_path: Path) -> None:
    presets = tmp_path / "conf" / "experiment"
    presets.mkdir(parents=True)
    for name, enabled in (("drawn", "true"), ("open", "null")):
        plots = f"plots: {{enabled: {enabled}, dpi: 10, num_samples: 1}}"
        (presets / f"{name}.yaml").write_text(f"# @package _global_\n{plots}\n")
    arguments = ("-m", "--config-dir=conf", *few_images(), *MLP[:3], "training.epochs=1")
    swept = ("experiment=drawn,open", "hydra.sweep.dir=sweep")
    code, output = command(*arguments, *swept, cwd=tmp_path)
    assert code == 0, output
    drawn = [(tmp_path / "sweep" / job / "plots").exists() for job in ("0", "1")]
    assert drawn == [True, False]


def test_what_null_leaves_open_changes_no_hash_of_a_run() -> None:
    """So that runs and sweeps of older versions, which wrote true and 5, go on."""
    null = composed(*MLP, DEFAULT_PLOTS)
    assert null.checkpoints.keep is None
    old = composed(*MLP, "plots.enabled=true", "checkpoints.keep=5")
    other = composed(*MLP, "plots.enabled=false")
    hashes = [hash_config(training_config(config)) for config in (null, old, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_first_step_is_tried_once_for_jobs_that_differ_in_seed_and_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    short = first_step._short

    def noted(*arguments: object) -> object:
        tried.append(current)
        return short(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(first_step, "_short", noted)
    monkeypatch.setattr(first_step, "_passed", set())
    for current in ("seed=0", "seed=1", "optimizer.lr=0.2", NO_DECAY, "data.subset=90"):
        config = composed(*MLP, "training.epochs=1", "plots.enabled=false", current)
        run_experiment(config, tmp_path / current)
    assert tried == ["seed=0", NO_DECAY, "data.subset=90"]
    results = [read_results(tmp_path / name) for name in ("seed=0", "seed=1")]
    sums = [r["folds"][0]["weights_sha256"] for r in results if r is not None]
    assert len(set(sums)) == 2


def test_the_table_is_written_when_its_last_one_is_long_enough_ago(tmp_path: Path) -> None:
    write_sweep(tmp_path, SweepRecord(["seed=1"], [], {}, jobs=[AskedJob(0, ["seed=1"], "0")]))
    pace, table = Pace(), tmp_path / "sweep.csv"
    pace.update(tmp_path, page=False)
    table.unlink()
    pace.due = time.monotonic() + 60
    pace.update(tmp_path, page=False)
    assert not table.exists()
    pace.due = time.monotonic()
    pace.update(tmp_path, page=False)
    assert table.exists()
    assert pace.due > time.monotonic()


def test_the_time_left_counts_the_jobs_that_others_trained_meanwhile() -> None:
    """Jobs 3 and 7 are of this process, those between of three others."""
    pace = Pace()
    first, second = SweepPlace(2, 10), SweepPlace(6, 10)
    pace.begin(first)
    assert pace.left(first) is None
    assert pace.ended is not None
    pace.ended -= 400
    pace.begin(second)
    assert (second.first, second.started) == (2, first.started)
    assert pace.left(second) == "about 5 min left"  # 3 jobs, 100 s each
    assert pace.left(SweepPlace(9, 10)) is None
    assert pace.left(SweepPlace(6, None)) is None


@pytest.mark.parametrize(
    ("jobs", "seconds", "text"),
    [
        (3, 0.5, "about 2 s left"),
        (10, 30, "about 5 min left"),
        (60, 300, "about 5.0 h left"),
    ],
)
def test_the_time_left_in_words(jobs: int, seconds: float, text: str) -> None:
    assert time_left(jobs, seconds) == text


def test_each_sweep_has_a_pace_of_its_own(tmp_path: Path) -> None:
    assert pace_of(tmp_path / "a") is pace_of(tmp_path / "a")
    assert pace_of(tmp_path / "a") is not pace_of(tmp_path / "b")


def test_a_sweep_recorded_anew_is_read_anew(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        record = SweepRecord([f"seed={seed}"], [], {}, version=1)
        write_sweep(tmp_path, record)
        assert read_sweep(tmp_path) == record


@pytest.mark.parametrize(
    ("record", "fixed"),
    [
        (
            SweepRecord(
                ["model=mlp", "seed=1,2"],
                [],
                {},
                jobs=[
                    AskedJob(0, ["model=mlp", "seed=1"], "0"),
                    AskedJob(1, ["model=mlp", "seed=2"], "1"),
                ],
            ),
            {"model=mlp"},
        ),
        (SweepRecord(["model=mlp", "seed=interval(1,2)"], [], {}), {"model=mlp"}),
    ],
)
def test_the_line_of_a_job_leaves_out_what_all_jobs_share(
    record: SweepRecord, fixed: set[str]
) -> None:
    assert record.fixed.intersection(["model=mlp", "seed=1", "seed=2"]) == fixed

"""Zipped and filtered sweeps: their jobs are listed, checked, run and gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_exp.app.composition import own_hydra
from mnist_exp.app.search.space import read_space
from mnist_exp.app.sweep.dry_run import list_jobs, search_lines
from mnist_exp.errors import UserError
from mnist_exp.run.sweep_record import read_sweep
from tests.helpers.fault_injection import CNN, command, few_images, outcome

RATES = (
    "constraint=memristor", "optimizer.lr_pos=0.05,0.1,0.2", "optimizer.lr_neg=0.1,0.1,0.3",
)  # fmt: skip
ZIP = "sweep.zip=[optimizer.lr_pos,optimizer.lr_neg]"
UNEQUAL = 'sweep.filter="optimizer.lr_pos != optimizer.lr_neg"'
DRY = "sweep.dry_run=true"
OWN = """
# @package _global_
defaults: [override /constraint: memristor]
hydra:
  mode: MULTIRUN
  sweeper: {params: {optimizer.lr_pos: "1,2", optimizer.lr_neg: "3,4"}}
sweep:
  zip: [optimizer.lr_pos, optimizer.lr_neg]
  filter: optimizer.lr_pos == 2
"""


def table(output: str) -> list[str]:
    """Return the rows of the table that a dry run prints, with single spaces."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("job directory"))
    end = next(n for n, line in enumerate(lines) if line.startswith("dry run of "))
    return lines[start:end]


@pytest.mark.slow
def test_a_dry_run_lists_the_jobs_that_are_kept_and_writes_nothing(tmp_path: Path) -> None:
    code, output = command("-m", *RATES, "seed=0,1", ZIP, UNEQUAL, DRY, cwd=tmp_path)
    assert code == 0, output
    assert table(output) == [
        "job directory optimizer.lr_pos optimizer.lr_neg seed",
        *("0 0 0.05 0.1 0", "1 1 0.05 0.1 1", "2 2 0.2 0.3 0", "3 3 0.2 0.3 1"),
    ]
    assert "dry run of 4 jobs in outputs/multirun/" in output
    assert [path.name for path in tmp_path.iterdir()] == ["command.log"]


def multirun(*overrides: str) -> DictConfig:
    """Compose a sweep's configuration, which no job has, as Hydra does."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config("config", [*overrides], RunMode.MULTIRUN)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("seed=0,x",), "job 1 (seed=x): seed=x: allowed is a whole number"),
        (("seed=0,1", 'sweep.filter="seed == 7"'), "true of no job; without it there are 2 jobs"),
        (("seed=0,1", 'sweep.filter="sede == 7"'), "sede: there is no such key in this job; did"),
        (("seed=0,1", 'sweep.filter="model < 7"'), "'cnn21k' and 7 cannot be compared"),
        (("seed=0,1", 'sweep.filter="training == 7"'), "training: is a group; name one of"),
        (("model=mlp,cnn21k", 'sweep.filter="model.dropout == 0"'),
         "job 1 (model=cnn21k): sweep.filter: model.dropout: there is no such key in this job"),
        (("seed=0,1", "sweep.zip=[seed,threads]"), "threads is not swept; swept are seed"),
        (("seed=0,1", "sweep.zip=seed"), "sweep.zip=seed: allowed is null or a list of two"),
        (("seed=0,1", "hydra/sweeper=basic", ZIP), "choose hydra/sweeper=grid, or leave sweep.zip"),
        (("hydra/sweeper=optuna", UNEQUAL), "choose hydra/sweeper=grid, or leave sweep.filter"),
        (("seed=0,1", "sweep.objective=validation_nosuch"), "is not measured; allowed is one of"),
        (("experiment=lr_asymmetry,memristor", "hydra.mode=MULTIRUN", "training.epochs=0"),
         "training.epochs=0: allowed is a whole number"),
        (("seed=range(0)",), "so the sweep has no jobs"),
        (("seed=0,1", "hydra.sweeper.max_batch_size=0"), "allowed is null or a whole number of"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_run_is_refused(arguments: tuple[str, ...], told: str) -> None:
    with own_hydra(), pytest.raises(UserError, match=re.escape(told)):
        list_jobs(multirun(*arguments))


def test_an_option_may_zip_and_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "rates.yaml").write_text(OWN.lstrip())
    with own_hydra():
        list_jobs(multirun(f"hydra.searchpath=[{tmp_path}]", "experiment=rates"))
    assert table(capsys.readouterr().out)[1:] == ["0 0 2 4 rates"]


def test_a_filter_knows_interpolated_numbers_and_the_names_of_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINE", "3")
    text = "seed < 4 and model == 'mlp' and constraint in ('none', 'clip') and threads == null"
    with own_hydra():
        list_jobs(multirun("model=mlp,cnn21k", "seed=5,${oc.env:MINE}", f'sweep.filter="{text}"'))
    assert len(table(capsys.readouterr().out)) == 2


SMALL = (
    *few_images(), *CNN, "training.epochs=1", "seed=0,1,2", "training.eval_batch_size=25,50,99",
)  # fmt: skip
KEPT = (
    "sweep.zip=[seed,training.eval_batch_size]",
    'sweep.filter="training.eval_batch_size < 99"',
)


@pytest.mark.slow
def test_a_zipped_and_filtered_sweep_runs_and_goes_on(tmp_path: Path) -> None:
    code, output = command("-m", *SMALL, *KEPT, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert (code, "sweep of 2 jobs" in output) == (0, True), output
    sweep = tmp_path / "sweep"
    jobs = read_sweep(sweep).jobs or []
    swept = [dict(text.split("=", 1) for text in job.overrides) for job in jobs]
    assert [(job["seed"], job["training.eval_batch_size"]) for job in swept] == [
        ("0", "25"),
        ("1", "50"),
    ]
    whole = outcome(sweep / "1")
    (sweep / "1" / "results.json").unlink()
    code, output = command("sweep.resume=sweep", "trust=true", cwd=tmp_path)
    assert (code, "sweep of 2 jobs" in output) == (0, True), output
    assert outcome(sweep / "1")["results"]["folds"] == whole["results"]["folds"]
    record = json.loads((sweep / "sweep.json").read_text())
    record["overrides"][-1] = "sweep.filter=\"__import__('os').system('touch made')\""
    (sweep / "sweep.json").write_text(json.dumps(record))
    code, output = command("sweep.resume=sweep", cwd=tmp_path)
    assert (code, "is not allowed; allowed are settings" in output) == (2, True), output
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_a_sweep_of_hydras_own_sweeper_goes_on_with_it(tmp_path: Path) -> None:
    arguments = (*few_images(), *CNN, "training.epochs=1", "seed=0", "hydra/sweeper=basic")
    code, output = command("-m", *arguments, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert code == 0, output
    assert read_sweep(tmp_path / "sweep").sweeper == "basic"
    before = outcome(tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "0" / "results.json").unlink()
    code, output = command("sweep.resume=sweep", cwd=tmp_path)
    assert code == 0, output
    assert outcome(tmp_path / "sweep" / "0")["metrics"] == before["metrics"]


def test_a_search_prints_what_it_chooses_from() -> None:
    ranges = read_space(
        ["a=tag(log,interval(0.01,1.0))", "b=range(8,65,8)", "model=mlp,mlp300", "seed=3"], {}
    ).ranges
    assert search_lines(ranges) == [
        "a      0.01 to 1.0, evenly in its logarithm",
        "b      8 to 64 in steps of 8",
        "model  mlp or mlp300",
    ]

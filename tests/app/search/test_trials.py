"""Searches with the real Optuna: small trainings, kills, engines and a PostgreSQL server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.app.search.space import read_space
from mnist_exp.errors import UserError
from mnist_exp.run.results import read_results
from mnist_exp.run.sweep_jobs import read_jobs
from mnist_exp.run.sweep_record import JobRecord, write_job
from tests.helpers.engines import HOLD, wait_until
from tests.helpers.fault_injection import command, few_images, kill_at_file_event
from tests.helpers.held_training import LET_GO
from tests.helpers.postgres import postgres_server

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.engines

SMALL = (
    *few_images(), "model=mlp", "model.hidden_sizes=[16]", "cv=holdout", "cv.validation=100",
    "training.batch_size=25", "training.epochs=2", "threads=1",
    "plots.enabled=false", "report.enabled=false",
)  # fmt: skip
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.startup_trials=2", *SMALL)
RATE = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
STORAGE = "hydra.sweeper.storage"
NAMED = "hydra.sweeper.study_name=rates"


def journal(sweep_dir: Path) -> Any:
    """Return the study in a sweep's directory."""
    backend = optuna.storages.journal.JournalFileBackend(str(sweep_dir / "study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="mnist_exp", storage=storage)


def validation_of(directory: Path) -> float:
    """Return the validation accuracy of a run's reported epoch."""
    results = read_results(directory)
    assert results is not None
    (fold,) = results["folds"]
    return float(fold["epochs"][fold["selected_epoch"] - 1]["validation_accuracy"])


def trials_of(study: Any) -> list[tuple[int, str, dict[str, Any], float | None]]:
    return [(t.number, t.state.name, t.params, t.value) for t in study.trials]


@pytest.mark.each_push
def test_a_killed_search_goes_on_with_the_trials_it_would_have_had(tmp_path: Path) -> None:
    arguments = (*SEARCH, RATE, "hydra.sweeper.n_trials=4")
    code, output = command(*arguments, "hydra.sweep.dir=whole", cwd=tmp_path)
    assert code == 0, output
    whole = journal(tmp_path / "whole")
    assert f"best of 4 trials: {whole.best_trial.number}, validation_accuracy" in output
    assert re.search(r"^\[3/4\] .* \| about .* left$", output, re.MULTILINE)
    rates = [trial.params["optimizer.lr"] for trial in whole.trials]
    assert len(set(rates)) == 4
    for trial in whole.trials:
        assert trial.value == validation_of(tmp_path / "whole" / str(trial.number))
    rows = read_jobs(tmp_path / "whole")
    assert {(row.job, float(row.overrides["optimizer.lr"])) for row in rows} == {
        (str(number), rate) for number, rate in enumerate(rates)
    }
    assert int(rows[0].job) == whole.best_trial.number

    killed = tmp_path / "killed"
    kill = kill_at_file_event(12, killed / "2")
    code, output = command(*arguments, "hydra.sweep.dir=killed", cwd=tmp_path, prepare=kill)
    assert code == -signal.SIGKILL, output
    assert [trial.state.name for trial in journal(killed).trials] == ["COMPLETE"] * 2 + ["RUNNING"]
    code, output = command("sweep.resume=killed", cwd=tmp_path)
    assert code == 0, output
    assert trials_of(journal(killed)) == trials_of(whole)

    # more trials on top, of other settings
    code, output = command("sweep.resume=killed", "hydra.sweeper.n_trials=5", cwd=tmp_path)
    assert code == 0, output
    assert trials_of(journal(killed))[:4] == trials_of(whole)
    assert journal(killed).trials[4].params["optimizer.lr"] not in rates


def test_a_failing_trial_counts_as_failed_and_stops_no_other(tmp_path: Path) -> None:
    code, output = command(
        *SEARCH, "optimizer.lr=-1,0.001,0.01", "hydra.sweeper.sampler=grid", "metrics=f1",
        "sweep.objective=validation.loss", f"{STORAGE}=sqlite:///study.db", NAMED,
        "hydra.sweep.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    assert code == 1, output
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.load_study(study_name="rates", storage=url)
    states = {trial.params["optimizer.lr"]: trial.state.name for trial in study.trials}
    assert states == {"-1": "FAIL", "0.001": "COMPLETE", "0.01": "COMPLETE"}
    assert study.direction.name == "MINIMIZE"
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        results = json.loads((tmp_path / "sweep" / str(trial.number) / "results.json").read_text())
        (fold,) = results["folds"]
        assert trial.value == fold["epochs"][fold["selected_epoch"] - 1]["validation_loss"]
    (elsewhere := tmp_path / "elsewhere").mkdir()  # the file is found from there, too
    code, output = command("sweep.resume=../sweep", "trust=true", cwd=elsewhere)
    assert code == 1, output
    assert list(elsewhere.glob("*.db")) == []
    other = ("sweep.direction=maximize", "hydra.sweep.dir=other")
    code, output = command(*SEARCH, RATE, f"{STORAGE}={url}", NAMED, *other, cwd=tmp_path)
    assert (code, "that study does not maximize" in output) == (2, True)
    assert not (tmp_path / "other" / "0").exists()


def test_with_k_fold_the_objective_is_the_mean_over_the_held_out_folds(tmp_path: Path) -> None:
    arguments = [text for text in SEARCH if not text.startswith("cv")]
    code, output = command(
        *arguments, "cv=kfold", "cv.n_splits=2", "cv.n_jobs=1", RATE,
        "hydra.sweeper.n_trials=1", "hydra.sweep.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    results = read_results(tmp_path / "sweep" / "0")
    assert results is not None
    (trial,) = journal(tmp_path / "sweep").trials
    assert trial.value == results["accuracy"]["mean"]
    assert "optimistic, since it was selected on the same images" in output


def test_a_trial_behind_the_median_is_pruned(tmp_path: Path) -> None:
    code, output = command(
        *SEARCH, "optimizer.lr=0.003,1e-9", "hydra.sweeper.sampler=grid", "training.epochs=3",
        "hydra.sweeper.pruner=median", "hydra.sweeper.startup_trials=1", "hydra.sweeper.seed=1",
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    states = {t.params["optimizer.lr"]: t.state.name for t in journal(tmp_path / "sweep").trials}
    assert states == {"0.003": "COMPLETE", "1e-09": "PRUNED"}
    assert [row.status for row in read_jobs(tmp_path / "sweep")] == ["completed", "pruned"]
    assert "2 jobs: 1 completed, 1 pruned" in output
    pruned = tmp_path / "sweep" / "1"
    assert len((pruned / "metrics.jsonl").read_text().splitlines()) == 1  # of 3 epochs
    code, output = command("evaluate", str(pruned), cwd=tmp_path)
    assert code == 0, output


def program(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_exp", *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.each_push
def test_trials_run_in_joblib_s_processes(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    search = program(
        *SEARCH, RATE, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=hyperband", "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )  # fmt: skip
    output, _ = search.communicate()
    assert search.returncode == 0, output
    study = journal(tmp_path / "sweep")
    assert len({trial.params["optimizer.lr"] for trial in study.trials}) == 3
    for trial in study.trials:
        if trial.state.name == "COMPLETE":
            assert trial.value == validation_of(tmp_path / "sweep" / str(trial.number))


@pytest.mark.each_push
def test_several_processes_share_a_study_on_postgresql(tmp_path: Path) -> None:
    with postgres_server() as url:
        searches = [
            program(
                *SEARCH, RATE, *HOLD, f"{STORAGE}={url}", NAMED, "hydra.sweeper.n_trials=5",
                "hydra.sweeper.pruner=hyperband", f"hydra.sweep.dir={name}", cwd=tmp_path,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        # the first trial holds, so that neither can end the search before the other takes part
        wait_until(lambda: all([*(tmp_path / name).glob("[0-9]*")] for name in ("a", "b")))
        for name in ("a", "b"):
            (tmp_path / name / LET_GO).touch()
        for search in searches:
            output, _ = search.communicate()
            assert search.returncode == 0, output
        trials = optuna.load_study(study_name="rates", storage=url).trials
    assert 5 <= len(trials) <= 6  # both may start the last one
    assert len({trial.params["optimizer.lr"] for trial in trials}) == len(trials)
    found: dict[int, Path] = {}
    for name in ("a", "b"):
        directories = [path for path in (tmp_path / name).iterdir() if path.name.isdigit()]
        assert directories, "took no part"
        found |= {int(path.name): path for path in directories}
    assert sorted(found) == [trial.number for trial in trials]
    for trial in trials:
        if trial.state.name == "COMPLETE":
            assert trial.value == validation_of(found[trial.number])
    assert any(trial.intermediate_values for trial in trials)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random", "grid"])
def test_every_sampler_proposes_new_settings_and_the_same_ones_again(sampler: str) -> None:
    from mnist_exp.app.search.study import make_sampler
    from mnist_exp.app.search.trials import propose

    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    ranges = ["a=range(0,1,0.25)", "b=range(1,3)"] if sampler == "grid" else ["a=interval(0,1)",
              "b=tag(log,interval(1e-3,1))"]  # fmt: skip
    space = read_space(ranges, {})
    settings = {"sampler": sampler, "seed": 3, "startup_trials": 2}

    def proposals(seed: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        study = optuna.create_study(direction="maximize")
        for _ in range(6):
            study.sampler = make_sampler({**settings, "seed": seed}, space)  # as after a kill
            trial = study.ask()
            found.append(propose(trial, space))
            study.tell(trial, -((found[-1]["a"] - 0.4) ** 2) - found[-1]["b"])
        return found

    first = proposals(3)
    assert len({tuple(values.values()) for values in first}) == 6
    assert proposals(3) == first
    assert sampler == "grid" or proposals(4) != first


def test_of_a_shared_study_only_the_trials_of_its_own_sweep_are_gone_on_with(
    tmp_path: Path,
) -> None:
    from mnist_exp.app.search.trials import unfinished_trials

    study = optuna.create_study()
    ours, _theirs, ended = study.ask(), study.ask(), study.ask()
    for trial in (ours, ended):
        write_job(tmp_path, JobRecord(trial.number, [], str(trial.number)))
    study.tell(ended, 1.0)
    assert unfinished_trials(study, tmp_path, shared=True) == [ours._trial_id]
    assert len(unfinished_trials(study, tmp_path, shared=False)) == 2


def test_jobs_are_launched_in_runs_of_consecutive_numbers() -> None:
    from mnist_exp.app.search.trials import consecutive

    assert list(consecutive([0, 1, 4, 6, 7])) == [[0, 1], [4], [6, 7]]
    assert list(consecutive([])) == []


def test_a_study_of_other_ranges_is_not_gone_on_with() -> None:
    from mnist_exp.app.search.trials import propose

    study = optuna.create_study()
    propose(study.ask(), read_space(["optimizer=sgd,adam"], {}))
    with pytest.raises(UserError, match="was started with other ranges"):
        propose(study.ask(), read_space(["optimizer=sgd,adamw"], {}))

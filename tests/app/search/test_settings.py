"""A search that cannot work is refused before it makes a file; none of this needs Optuna."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp import schema
from mnist_exp.app.search.settings import OPTUNA, RULES
from mnist_exp.app.sweep.objective import direction_of
from mnist_exp.experiment.run import run_experiment
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.overview import read_overview
from mnist_exp.run.results import read_results
from mnist_exp.run.sweep_jobs import as_job
from tests.conftest import Compose
from tests.helpers.fault_injection import CNN, command, composed, few_images

HOLDOUT = (*few_images(), *CNN, "cv=holdout", "cv.validation=50")
KFOLD = (*CNN, "cv=kfold", "cv.n_splits=2", "cv.n_jobs=1")
RATE = "optimizer.lr=interval(0.001,0.01)"
SEARCH = ("-m", "hydra/sweeper=optuna", *HOLDOUT, RATE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-m", "hydra/sweeper=optuna", *CNN, "cv=none", RATE),
            "and there are none; set cv=holdout",
        ),
        ((*SEARCH, "cv.validation=0"), "set cv=holdout, with cv.validation above 0"),
        ((*SEARCH, "sweep.objective=test_accuracy"), "must not choose a setting"),
        (("-m", *HOLDOUT, "seed=0,1", "sweep.objective=train_loss"), "must not choose a setting"),
        ((*SEARCH, "sweep.objective=validation_f1"), "is not measured; allowed is one of"),
        (("-m", "hydra/sweeper=optuna", *HOLDOUT), "nothing is searched"),
        ((*SEARCH, "hydra.sweeper.storage=sqlite:///s.db"), "name the study there"),
        ((*SEARCH, "hydra.sweeper.sampler=grid"), "a grid needs values, not an interval"),
        (("-m", "hydra/sweeper=optuna", *KFOLD, RATE, "hydra.sweeper.pruner=median"), "leave the"),
        ((*SEARCH, "hydra.sweeper.sampler=best"), "allowed is tpe or gp or cmaes"),
    ],
)
def test_what_test_images_would_choose_or_nobody_can_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, output = command(*arguments, cwd=tmp_path)
    assert code == 2
    assert message in output
    assert not (tmp_path / "outputs").exists()


def test_every_key_of_the_option_has_a_rule_that_its_default_keeps() -> None:
    option: Any = OmegaConf.to_container(
        OmegaConf.load(config_directory() / "hydra" / "sweeper" / "optuna.yaml")
    )
    assert option.keys() - {"_target_", "params"} == RULES.keys()
    assert all(rule.accepts(option[key]) for key, rule in RULES.items())
    assert option["_target_"] == OPTUNA


@pytest.mark.skipif(importlib.util.find_spec("optuna") is not None, reason="Optuna is installed")
def test_without_optuna_the_message_says_what_to_install(tmp_path: Path) -> None:
    code, output = command(*SEARCH, cwd=tmp_path)
    assert code == 2
    assert 'the package optuna is missing; pip install "mnist_exp[optuna]"' in output
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("overrides", "direction"),
    [
        ([], "maximize"),
        (["sweep.objective=validation.loss"], "minimize"),
        (["metrics=f1", "sweep.objective=validation_f1.3"], "maximize"),
        (["metrics=ece", "sweep.objective=validation.ece"], "minimize"),
        (["sweep.objective=validation_loss", "sweep.direction=maximize"], "maximize"),
    ],
)
def test_the_objective_says_its_direction_unless_it_is_set(
    compose_config: Compose, overrides: list[str], direction: str
) -> None:
    assert direction_of(compose_config(*overrides)) == direction


def test_the_preset_searches_both_rates_with_validation_images(compose_config: Compose) -> None:
    config = compose_config("experiment=lr_search")
    schema.check(config)
    assert config.model.name == "mlp100"
    assert config.optimizer.lr_pos != config.optimizer.lr_neg  # of constraint=memristor
    assert config.cv.validation == 5000


def test_a_trial_behind_the_others_ends_as_pruned_and_keeps_its_weights(tmp_path: Path) -> None:
    from mnist_exp.callbacks.trial import SearchTrial

    seen: list[tuple[float, int]] = []

    def behind(value: float, epoch: int) -> bool:
        seen.append((value, epoch))
        return epoch == 2

    config = composed(*HOLDOUT[2:], "training.epochs=4")
    callbacks = {"search": SearchTrial("validation_accuracy", behind)}
    run_experiment(config, tmp_path / "0", callbacks=callbacks)
    results = read_results(tmp_path / "0")
    assert results is not None
    (fold,) = results["folds"]
    assert seen == [(row["validation_accuracy"], row["epoch"]) for row in fold["epochs"]]
    assert [epoch for _, epoch in seen] == [1, 2]
    assert (tmp_path / "0" / "checkpoints" / "best.pt").is_file()
    job = as_job(read_overview(tmp_path / "0"))
    assert job.status == "pruned"
    assert "after epoch 2 of 4 was behind other trials" in job.error


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((*CNN, "cv=none"), "there are no validation images"),
        (KFOLD, "cannot be pruned"),
        ((*HOLDOUT[2:], "sweep.objective=validation_f1"), "allowed is one of"),
    ],
)
def test_a_job_checks_its_objective_before_it_trains(
    tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    from mnist_exp.callbacks.trial import SearchTrial
    from mnist_exp.errors import UserError

    config = composed(*overrides)
    trial = SearchTrial(config.sweep.objective, lambda value, epoch: False, "cannot be pruned")
    with pytest.raises(UserError, match=message):
        run_experiment(config, tmp_path / "0", callbacks={"search": trial})
    assert not (tmp_path / "0" / "results.json").exists()

"""Settings without effect: impossible ones are refused, ignored ones get a warning."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.experiment.ignored_settings import Facts, ignored_settings, keys_of
from mnist_exp.experiment.run import run_experiment
from mnist_exp.files.shipped_config import config_directory
from tests.conftest import Compose

FACTS = Facts(
    train_size=300, test_size=200, folds=1, momentum=True, schedule_changes=True, smoothing=True
)
SMALL = (
    "cv.test=200", "data.subset=100", "plots.enabled=false", "report.enabled=false",
    "training.epochs=2",
)  # fmt: skip


def lines(compose_config: Compose, *overrides: str, facts: Facts = FACTS) -> list[str]:
    return ignored_settings(compose_config(*overrides), keys_of(overrides), facts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.normalization=unit", "data.mean=0.3"], "data.mean=0.3 has no effect: data.norm"),
        (["augmentation=light", "augmentation.strength=0", "augmentation.shear=3"], "shear=3 has"),
        (["model=mlp", "model.hidden_sizes=[]", "model.dropout=0.5"], "no hidden layer"),
        (["cv=kfold", "cv.n_jobs=8"], "cv.n_jobs=8 has no effect: the run has 1 fold to train"),
        (["training.batch_size=301"], "a batch is all 300 training images"),
        (["training.averaging_warmup=true"], "averages no weights"),
        (["training.decay_norm_and_bias=false"], "no weight decay"),
        (["plots.enabled=false", "plots.dpi=50"], "plots.dpi=50 has no effect"),
        (["plots.num_samples=201"], "there are 200 images to show"),
        (["scheduler=constant", "scheduler.interval=step"], "the rate is constant"),
        (["scheduler=onecycle", "scheduler.max_lr=0.3", "optimizer=adam", "optimizer.lr=0.1"],
         "optimizer.lr=0.1 has no effect: scheduler.max_lr"),
        (["scheduler=onecycle", "scheduler.cycle_momentum=false", "scheduler.base_momentum=0.8"],
         "base_momentum=0.8 has no effect: scheduler.cycle_momentum=false"),
        (["scheduler=onecycle", "optimizer=sgd", "optimizer.momentum=0.5"],
         "optimizer.momentum=0.5 has no effect: .* from 0.85 to 0.95"),
        (["scheduler=onecycle", "optimizer=adam", "optimizer.betas=[0.5,0.9]"], "from 0.85 to"),
        (["constraint=clip", "constraint.retention_target=0.3"], "lets nothing drift"),
        (["constraint=clip", "constraint.gain=0.3"], "a weight is a conductance"),
        (["constraint=clip", "constraint.levels=9"], "levels=9 has no effect: .* no levels"),
        (["constraint=ag_si", "constraint.rounding=nearest"], "rounds to no levels"),
        (["constraint=memristor", "constraint.clip=false"], "keeps the bounds as well"),
        (["gradients=batch", "gradients.augmented=true"], "takes what training sees"),
        (["gradients=epoch", "gradients.sample_choice=first"], "all training images are taken"),
        (["gradients=epoch", "gradients.max_samples=999"], "there are 300 training images"),
        (["augmentation=none", "gradients=epoch", "gradients.augmented=true"], "changes no image"),
        (["gradients=epoch", "gradients.top_k=500"], "there are fewer"),
        (["gradients=epoch", "gradients.format=statistics", "gradients.dtype=float16"],
         "dtype=float16 has no effect"),
    ],
)  # fmt: skip
def test_given_settings_without_effect_get_one_line(
    compose_config: Compose, overrides: list[str], expected: str
) -> None:
    (line,) = lines(compose_config, "model=mlp100", *overrides)
    assert re.search(expected, line), line


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.mean=0.3", "data.std=0.3", "model=mlp300"],
        ["training.averaging=0.9", "training.averaging_warmup=false"],
        ["training.batch_size=300", "plots.num_samples=200", "plots.dpi=50"],
        ["optimizer=adamw", "training.decay_norm_and_bias=false"],
        ["scheduler=onecycle", "optimizer=sgd", "optimizer.momentum=0.9"],
        ["scheduler=onecycle", "scheduler.max_lr=0.3", "model=cnn21k", "optimizer.lr=0.1"],
        ["constraint=memristor", "constraint.gain=2", "constraint.levels=50"],
        ["constraint=ag_si", "constraint.levels=50", "constraint.clip=true"],
        ["gradients=epoch", "gradients.max_samples=50", "gradients.sample_choice=first"],
    ],
)
def test_settings_with_an_effect_get_no_warning(
    compose_config: Compose, overrides: list[str]
) -> None:
    assert lines(compose_config, *overrides) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (config_directory() / "experiment").glob("*"))
)
def test_presets_are_silent(compose_config: Compose, name: str) -> None:
    assert lines(compose_config, f"experiment={name}") == []
    assert lines(compose_config, f"experiment={name}", "constraint=memristor") == []


def test_settings_not_given_get_no_warning(compose_config: Compose) -> None:
    config = compose_config("data.normalization=unit", "data.mean=0.3", "constraint=clip")
    assert ignored_settings(config, keys_of(["data.normalization=unit"]), FACTS) == []


@pytest.mark.parametrize("said", ["scheduler=onecycle", "scheduler.base_momentum=0.9"])
def test_a_momentum_that_is_not_there_cannot_be_moved(compose_config: Compose, said: str) -> None:
    facts = replace(FACTS, momentum=False)
    found = lines(compose_config, "scheduler=onecycle", said, facts=facts)
    assert len(found) == (said != "scheduler=onecycle")


def test_a_schedule_longer_than_the_run_gets_a_warning(compose_config: Compose) -> None:
    facts = replace(FACTS, schedule_changes=False)
    (line,) = lines(compose_config, "model=mlp100", "scheduler=step", facts=facts)
    assert "StepLR changes nothing within this run" in line
    assert lines(compose_config, "model=mlp100", facts=facts) == []


def test_overrides_of_every_form_name_their_key() -> None:
    given = ["a.b=1", "+c=2", "++d.e=[1,2]", "~f", "optimizer@mine=sgd"]
    assert keys_of(given) == {"a.b", "c", "d.e", "f", "optimizer"}


@pytest.mark.slow
def test_a_run_warns_once_before_it_trains(
    tmp_path: Path, compose_config: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ("model=mlp100", "cv=none", *SMALL, "training.batch_size=500", "scheduler=step")
    run_experiment(compose_config(*overrides), tmp_path / "run", said=keys_of(overrides))
    errors = capsys.readouterr().err
    assert errors.count("warning: training.batch_size=500 has no effect: a batch is all 100") == 1
    assert errors.count("warning: scheduler: torch.optim.lr_scheduler.StepLR changes nothing") == 1
    run_experiment(compose_config(*overrides), tmp_path / "other")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["[5]", "[0,1]", "[]", "[1,3]"])
def test_gradients_of_epochs_that_do_not_come_are_refused(
    tmp_path: Path, compose_config: Compose, epochs: str
) -> None:
    overrides = ("model=mlp100", "cv=none", *SMALL, "gradients=epoch", f"gradients.epochs={epochs}")
    with pytest.raises(UserError, match=r"gradients.epochs=.*epochs 1 to 2"):
        run_experiment(compose_config(*overrides), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "seen"),
    [
        (["data.mean=33.3", "data.std=78.6"], "deviation of 0.0039"),
        (["data.std=1e-3"], "to 869"),
        (["data.std=0.3", "data.mean=0.1"], None),
        (["data.normalization=unit"], None),
    ],
)
def test_inputs_of_a_wrong_scale_are_warned_of_with_what_would_fit(
    tmp_path: Path,
    compose_config: Compose,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    seen: str | None,
) -> None:
    config = compose_config("model=mlp300", "cv=none", *SMALL, *overrides)
    run_experiment(config, tmp_path / "run")
    errors = capsys.readouterr().err
    assert errors.count("warning: network inputs run from") == (seen is not None)
    assert (seen or "") in errors


class Scales(nn.Module):
    """A network without a weight matrix."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean((1, 2, 3))[:, None]


def test_a_gradient_norm_without_a_first_layer_is_refused(
    tmp_path: Path, compose_config: Compose
) -> None:
    config = compose_config(
        "cv=none", "optimizer=adam", "scheduler=constant", "training.gradient_norm=true",
        "model=cnn21k", f"model._target_={__name__}.Scales", *SMALL,
    )  # fmt: skip
    with pytest.raises(UserError, match="gradient_norm=true: Scales has no weight"):
        run_experiment(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())

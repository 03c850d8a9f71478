"""What was asked for and has no influence is said, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.experiment import run_experiment
from mnist_exp.run.saved_config import flat
from mnist_exp.targets import call_target
from mnist_exp.unused_settings import UNUSED, unused_settings
from tests.conftest import Compose
from tests.fault_injection import SMALL, command, composed

RUN = ("cv=none", "data.subset=100", *SMALL)


@pytest.mark.parametrize(
    ("overrides", "unused"),
    [
        (["model=mlp100", "data.mean=0.5"], ["data.mean"]),
        (["model=mlp300", "data.mean=0.5"], []),
        (["model=mlp300", "optimizer.lr=0.1"], []),
        (["model=mlp300", "scheduler.max_lr=0.01", "optimizer.lr=0.1"], ["optimizer.lr"]),
        (["optimizer=sgd", "scheduler=onecycle", "optimizer.momentum=0.5"], ["optimizer.momentum"]),
        (["optimizer=sgd", "scheduler=onecycle", "scheduler.max_momentum=0.9"],
         ["scheduler.max_momentum"]),
        (["constraint=clip", "constraint.levels=16"], ["constraint.levels"]),
        (["constraint=clip", "constraint.levels=16", "constraint.pulse_rounding=nearest"], []),
        (["constraint=clip", "constraint.gain=2", "constraint.retention=0.1"],
         ["constraint.gain", "constraint.retention"]),
        (["constraint=memristor", "constraint.levels=16", "constraint.gain=2"], []),
        (["gradients=batch", "gradients.augmented=true"], ["gradients.augmented"]),
        (["gradients=epoch", "gradients.sample_choice=first"], ["gradients.sample_choice"]),
        (["plots.enabled=false", "plots.dpi=60"], ["plots.dpi"]),
        (["debug=overfit"], []),
    ],
)  # fmt: skip
def test_settings_without_influence(
    compose_config: Compose, overrides: list[str], unused: list[str]
) -> None:
    config = OmegaConf.to_container(compose_config(*overrides), resolve=True)
    assert isinstance(config, dict)
    sentences = unused_settings(config, overrides)  # type: ignore[arg-type]
    assert [sentence.partition("=")[0] for sentence in sentences] == unused


def test_every_key_of_the_table_is_a_setting(compose_config: Compose) -> None:
    keys: set[str] = set()
    for overrides in (
        ("optimizer=sgd", "scheduler=onecycle", "constraint=memristor"), ("gradients=epoch",)
    ):  # fmt: skip
        keys |= flat(OmegaConf.to_container(compose_config(*overrides))).keys()  # type: ignore[arg-type]
    assert UNUSED.keys() <= keys


def test_the_command_line_says_it_once_and_runs(tmp_path: Path) -> None:
    code, output = command("model=mlp100", "data.std=2", *RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, output
    said = "warning: data.std=2: has no influence with data.normalization=unit"
    assert output.count("warning: ") == output.count(said) == 1


@pytest.mark.parametrize(
    ("group", "override"),
    [
        ("constraint", "constraint.gain=true"),
        ("constraint", "constraint.levels=true"),
        ("constraint", "constraint.clip=1"),
        ("optimizer", "optimizer.lr_pos=true"),
        ("optimizer", "optimizer.momentum=false"),
        ("gradients", "gradients.top_k=true"),
        ("gradients", "gradients.epochs=[true]"),
        ("gradients", "gradients.cosine=2"),
        ("model", "model.hidden_sizes=[true]"),
        ("model", "model.dropout=true"),
        ("cv", "cv.validation=true"),
        ("cv", "cv.train=false"),
        ("augmentation", "augmentation.degrees=true"),
    ],
)
def test_true_is_no_number_and_a_number_is_not_true(
    compose_config: Compose, group: str, override: str
) -> None:
    options = ("model=mlp", "constraint=memristor", "gradients=epoch", "augmentation=strong")
    config = compose_config(*options, override)
    arguments: tuple[object, ...] = ([],) if group == "optimizer" else ()
    extra = {"num_classes": 10} if group == "model" else {}
    with pytest.raises(UserError, match=override.partition("=")[0].replace(".", r"\.")):
        call_target(config, group, *arguments, **extra)


@pytest.mark.parametrize("epochs", ["[5]", "[0]", "[1,3]", "[-1]"])
def test_gradients_of_an_epoch_that_never_comes_are_refused(tmp_path: Path, epochs: str) -> None:
    config = composed("model=mlp100", "gradients=epoch", f"gradients.epochs={epochs}", *RUN)
    with pytest.raises(UserError, match=r"gradients\.epochs: .*; allowed is 1 to 2"):
        run_experiment(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_batch_larger_than_the_training_set_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(composed("model=mlp100", *RUN, "training.batch_size=128"), tmp_path)
    assert "warning: training.batch_size=128: there are 100 training images" in (
        capsys.readouterr().err
    )

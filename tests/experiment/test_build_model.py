"""A network by ``_target_``: which arguments it gets, and how its logits are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.experiment.build import build_model
from mnist_exp.experiment.logits import check_logits
from mnist_exp.experiment.run import run_experiment
from tests.conftest import Compose

SMALL = (
    "cv=none",
    "data.subset=100",
    "training.epochs=1",
    "plots.enabled=false",
    "report.enabled=false",
    "optimizer=sgd",
)


class Ten(nn.Sequential):
    """Takes no argument."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


def flexible(width: int = 5, **others: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, *others.values()))


def positional(num_classes: int, /) -> nn.Module:
    return nn.Linear(784, num_classes)


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images @ torch.zeros(3, 3)


@pytest.mark.parametrize(("target", "classes"), [("Ten", 10), ("flexible", 3)])
def test_num_classes_goes_only_where_it_is_taken(
    compose_config: Compose, target: str, classes: int
) -> None:
    config = compose_config(f"model._target_={__name__}.{target}")
    model = build_model(config, classes)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, classes)


def test_a_missing_argument_is_named(compose_config: Compose) -> None:
    config = compose_config(f"model._target_={__name__}.positional")
    with pytest.raises(UserError, match=r"missing a required argument: 'num_classes'"):
        build_model(config, 10)


def test_a_function_of_torchvision_is_a_model(compose_config: Compose) -> None:
    config = compose_config("model._target_=torchvision.models.squeezenet1_1")
    model = build_model(config, 4)
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    with pytest.raises(UserError, match=r"squeezenet1_1 fails on a batch .*3 channels, but got 1"):
        check_logits(config, model, torch.zeros(2, 1, 28, 28), 4)


def test_layers_written_in_yaml_are_a_model(tmp_path: Path, compose_config: Compose) -> None:
    layers = (
        "[{_target_: torch.nn.Flatten},"
        "{_target_: torch.nn.Linear, in_features: 784, out_features: 10}]"
    )
    overrides = ("model._target_=torch.nn.Sequential", f"+model._args_={layers}")
    results = run_experiment(compose_config(*SMALL, *overrides), tmp_path / "run")
    assert results["parameters"] == 7_850


def test_another_number_of_logits_is_refused_before_anything_is_written(
    tmp_path: Path, compose_config: Compose
) -> None:
    config = compose_config(*SMALL, f"model._target_={__name__}.Ten", "data.classes=[3,5]")
    with pytest.raises(UserError, match=r"Ten gives \[2, 10\] .* expected are logits \[2, 2\]"):
        run_experiment(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_what_forward_raised_is_told_with_its_line(compose_config: Compose) -> None:
    config = compose_config(f"model._target_={__name__}.Broken")
    model = Broken()
    with pytest.raises(UserError, match=rf"Broken fails .*RuntimeError.*\({__file__}, line \d+\)"):
        check_logits(config, model, torch.zeros(2, 1, 28, 28), 10)
    assert model.training

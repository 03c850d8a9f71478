"""Device ranges that do not fit the weights: the warning suggests settings that work."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mnist_exp.data import Dataset
from mnist_exp.experiment import build
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.train.evaluate import evaluate
from mnist_exp.train.loop import Training, train
from tests.conftest import Compose

CPU = torch.device("cpu")
MEMRISTOR = ("model=mlp100", "constraint=memristor", "cv=none", "training.batch_size=20")
DEVICES = sorted(p.stem for p in (config_directory() / "constraint").glob("[!_n]*.yaml"))


def warnings(config: DictConfig) -> list[str]:
    state = build.build_state(config, 10, 1000, CPU, seed=0)
    assert state.constraint is not None
    return [s for s in state.constraint.warnings(0.1) if "chance" in s]


def accuracy(config: DictConfig, mnist: Dataset) -> float:
    images = build.build_images(config, mnist, CPU)
    state = build.build_state(config, 10, 1000, CPU, seed=0)
    train(
        state,
        Training(images, torch.arange(1000), build.build_recipe(config, CPU)),
        lambda model: {},
    )
    test = torch.arange(60_000, 62_000)
    return evaluate(state.model, images, test, batch_size=2000, precision="fp32").accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"W_min": 1e-6, "W_max": 5e-6},
        {"W_min": 0.0, "W_max": 5e-6, "mapping": "reference"},
        {"gain": 1000.0},
        {"W_min": 0.0, "W_max": 400.0, "retention_target": 100.0},
        {"W_min": 0.0, "W_max": 5e-6, "mapping": "direct"},
    ],
)
def test_the_settings_of_the_warning_turn_chance_into_learning(
    compose_config: Compose, mnist: Dataset, wrong: dict[str, Any]
) -> None:
    overrides = [f"constraint.{name}={value}" for name, value in wrong.items()]
    config = compose_config(*MEMRISTOR, "training.epochs=3", *overrides)
    (sentence,) = warnings(config)
    assert accuracy(config, mnist) < 0.35
    for key, value in re.findall(r"(constraint\.\w+)=([\w.+-]+)", sentence):
        OmegaConf.update(config, key, value if value.isalpha() else float(value))
    assert warnings(config) == []
    assert accuracy(config, mnist) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp100", "mlp300", "cnn20k", "cnn21k"])
@pytest.mark.parametrize("device", DEVICES)
def test_only_the_shipped_device_at_chance_gets_a_warning(
    compose_config: Compose, device: str, model: str
) -> None:
    sentences = warnings(compose_config(f"model={model}", f"constraint={device}"))
    assert len(sentences) == (device == "published")
    assert all("outside what the devices reach, [0.1, 0.51]" in s for s in sentences)
    assert all("With constraint.mapping=differential the devices reach" in s for s in sentences)


@pytest.mark.parametrize(
    "override",
    ["constraint.gain=0.3", "constraint.gain=3", "constraint.levels=2", "constraint.bias=free"],
)
def test_a_range_of_the_right_size_gets_no_warning(compose_config: Compose, override: str) -> None:
    assert warnings(compose_config(*MEMRISTOR, override)) == []


def test_without_bounds_there_is_no_range(compose_config: Compose) -> None:
    config = compose_config(
        "model=mlp100", "constraint=clip", "constraint.clip=false", "constraint.W_max=1e-6",
        "constraint.W_min=0",
    )  # fmt: skip
    assert warnings(config) == []

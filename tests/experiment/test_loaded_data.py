"""Data of this package's loaders is read once, and again if files or arguments change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from mnist_exp.data import Dataset
from mnist_exp.experiment.loaded_data import load_dataset
from tests.conftest import Compose
from tests.helpers.fault_injection import few_images

calls: list[str] = []


def own_data() -> Dataset:
    calls.append("own")
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    return Dataset("own", images, torch.tensor([0, 1, 0, 1]), 2, ("0", "1"))


@pytest.fixture
def config(compose_config: Compose, tmp_path: Path) -> DictConfig:
    source = Path(few_images()[1].removeprefix("data.root="))
    shutil.copytree(source, tmp_path / "images")
    return compose_config("data=idx", f"data.root={tmp_path / 'images'}")


def test_the_same_data_is_read_once(config: DictConfig, compose_config: Compose) -> None:
    first = load_dataset(config)
    assert load_dataset(config) is first
    config.data.subset = 10  # not the loader's
    assert load_dataset(config) is first
    assert load_dataset(compose_config("data=mnist")).name == "MNIST"
    assert load_dataset(config) is not first  # one data set is kept


def test_changed_files_are_read_again(config: DictConfig) -> None:
    first = load_dataset(config)
    labels = Path(config.data.root) / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    os.utime(labels, ns=(0, 0))
    assert load_dataset(config).labels[599] == 0
    assert load_dataset(config) is not first


def test_images_changed_in_place_are_read_again(config: DictConfig) -> None:
    first = load_dataset(config)
    first.images.zero_()
    assert load_dataset(config).images.any()


def test_a_loader_of_ones_own_is_called_every_time(compose_config: Compose) -> None:
    config = compose_config("data=mnist", f"data._target_={__name__}.own_data")
    before = len(calls)
    load_dataset(config)
    load_dataset(config)
    assert len(calls) == before + 2

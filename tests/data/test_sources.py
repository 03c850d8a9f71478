"""Data sets: the bundled MNIST is the published one; others are read or clearly refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from mnist_exp.data import Dataset, load_idx_directory, load_torchvision, sources
from mnist_exp.errors import UserError
from tests.data.test_idx import idx_bytes

STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def write_idx_directory(
    root: Path, labels: list[int], prefix: str = "", ending: str = "-ubyte"
) -> np.ndarray:
    """Write both splits with the same random images; return the images."""
    root.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), np.uint8)
    for stem in STEMS:
        array = images if "images" in stem else np.array(labels, np.uint8)
        name = stem.replace("t10k", "test") if prefix else stem  # EMNIST's own names
        (root / f"{prefix}{name}{ending}").write_bytes(idx_bytes(array))
    return images


def test_bundled_mnist_is_the_published_one(mnist: Dataset) -> None:
    assert mnist.images.shape == (70_000, 28, 28)
    assert mnist.images.dtype == torch.uint8
    assert mnist.num_train == 60_000
    assert mnist.num_classes == 10
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's training split
    assert mnist.train_labels.bincount().tolist() == counts
    mean, std = mnist.pixel_mean_std()
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


def test_bundled_files_are_those_of_torchvision() -> None:
    published = dict(datasets.MNIST.resources)
    assert published == sources.BUNDLED_MD5


def test_damaged_bundled_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sources.BUNDLED, tmp_path / "mnist")
    damaged = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    monkeypatch.setattr(sources, "BUNDLED", tmp_path / "mnist")
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz.*MD5"):
        sources.load_mnist()


@pytest.mark.parametrize("ending", ["-ubyte", ".ubyte"])
def test_idx_directory_with_any_number_of_classes(tmp_path: Path, ending: str) -> None:
    images = write_idx_directory(tmp_path, list(range(26)), ending=ending)
    dataset = load_idx_directory(tmp_path)
    assert dataset.num_classes == 26
    assert dataset.num_train == 26
    np.testing.assert_array_equal(dataset.test_images.numpy(), images)


def test_idx_directory_faults_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        load_idx_directory(tmp_path)
    write_idx_directory(tmp_path, [0, 1, 2])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(2, np.uint8)))
    with pytest.raises(UserError, match=r"holds 3 images but .*t10k-labels-idx1-ubyte holds 2"):
        load_idx_directory(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 1, 7], np.uint8)))
    with pytest.raises(
        UserError, match=r"test labels 7 do not occur in training, whose labels are 0, 1, 2"
    ):
        load_idx_directory(tmp_path)


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST", "EMNIST", "QMNIST"])
def test_missing_torchvision_set_says_which_files_go_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="Place these files") as caught:
        load_torchvision(name, root=tmp_path, download=False)
    message = str(caught.value)
    assert str(tmp_path / name / "raw") in message
    assert ".gz" in message or ".zip" in message


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_torchvision_set_in_place_is_read(tmp_path: Path, name: str) -> None:
    images = write_idx_directory(tmp_path / name / "raw", list(range(10)))
    dataset = load_torchvision(name, root=tmp_path, download=False)
    np.testing.assert_array_equal(dataset.train_images.numpy(), images)


def test_emnist_digits_are_turned_upright(tmp_path: Path) -> None:
    images = write_idx_directory(
        tmp_path / "EMNIST" / "raw", list(range(10)), prefix="emnist-digits-"
    )
    dataset = load_torchvision("EMNIST", root=tmp_path, download=False)
    np.testing.assert_array_equal(dataset.train_images.numpy(), images.transpose(0, 2, 1))


def test_unknown_torchvision_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CIFAR10: allowed are FashionMNIST"):
        load_torchvision("CIFAR10", root=tmp_path, download=False)


def test_selected_classes_are_numbered_anew_in_both_splits(mnist: Dataset) -> None:
    two = mnist.select_classes([5, 3])
    assert two.class_names == ("5", "3")
    fives = mnist.test_images[mnist.test_labels == 5]
    assert torch.equal(two.test_images[two.test_labels == 0], fives)
    assert two.num_train == int(((mnist.train_labels == 3) | (mnist.train_labels == 5)).sum())


@pytest.mark.parametrize("classes", [[], [3], [3, 3], [3, 10], [-1, 3]])
def test_impossible_class_choices_are_refused(mnist: Dataset, classes: list[int]) -> None:
    with pytest.raises(UserError, match=r"data\.classes"):
        mnist.select_classes(classes)

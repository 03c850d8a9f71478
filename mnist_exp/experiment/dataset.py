"""The data set that ``data`` describes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from mnist_exp.data import Dataset
from mnist_exp.data.torch_dataset import is_torch_dataset, read_torch_dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import call_target, find_target
from mnist_exp.experiment.loaded_data import load_dataset

TURNS_EMNIST = "mnist_exp.data.load_torchvision"  # upright itself


def described_dataset(config: DictConfig) -> Dataset:
    """Load the data set, with its classes and their names as ``data`` says.

    Raises
    ------
    UserError
        If it cannot be loaded, or the target returns none.
    """
    target = find_target(config, "data")
    if is_torch_dataset(target):
        with _no_empty_directory(config.data.get("root")):
            dataset = read_torch_dataset(target, partial(call_target, config, "data"))
    else:
        dataset = load_dataset(config)
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"data._target_={config.data.get('_target_')}: gives a {type(dataset).__name__}; "
            "allowed is a function that returns a mnist_exp.data.Dataset, such as that of "
            "mnist_exp.data.pool, or a class of torchvision.datasets."
        )
    if config.data.get("transpose"):
        dataset = dataset.transposed()
    classes, class_names = config.data.classes, config.data.get("class_names")
    if classes is not None:
        dataset = dataset.select_classes(list(classes))
    return dataset if class_names is None else dataset.named(list(class_names))


@contextlib.contextmanager
def _no_empty_directory(root: str | None) -> Iterator[None]:
    """Remove a directory that a block made for a download that failed."""
    new = root is not None and not Path(root).exists()
    try:
        yield
    finally:
        if new and root is not None:
            with contextlib.suppress(OSError):  # it has files, or was not made
                Path(root).rmdir()


def orientation_warning(config: DictConfig, dataset: Dataset) -> str | None:
    """Return a warning if the data looks like EMNIST's files, whose images are transposed."""
    data = config.data
    if data.get("transpose") or data.get("_target_") == TURNS_EMNIST:
        return None
    if "emnist" not in dataset.name.lower():
        return None
    return (
        f"{dataset.name}: EMNIST's files hold transposed images, here taken as they are. If "
        f"plots/mnist_samples.{config.plots.format} shows them lying, add data.transpose=true."
    )

"""Data sets of torch and torchvision, read into memory as arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mnist_exp.data.arrays import Array
from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.errors import UserError

# How classes are asked for a split, by the argument that they take: training, then test.
SPLITS: dict[str, tuple[Any, Any]] = {"train": (True, False), "split": ("train", "test")}


def is_torch_dataset(target: object) -> TypeGuard[type[TorchDataset[Any]]]:
    """Whether a target is a class of torch's data sets, such as ``torchvision.datasets.SVHN``."""
    return isinstance(target, type) and issubclass(target, TorchDataset)


def read_torch_dataset(kind: type[TorchDataset[Any]], make: Callable[..., Any]) -> Dataset:
    """Read both splits of a torch data set.

    Its ``data`` with its ``targets`` or ``labels`` are taken where it has them and no transform.
    Otherwise each image is fetched; a transform may bring them to one size.

    Parameters
    ----------
    kind : type
        The class; takes ``train`` (true or false) or ``split`` ("train" or "test").
    make : callable
        Called with one of these; returns the split.

    Raises
    ------
    UserError
        If it takes neither, cannot be loaded, or its images differ in size.
    """
    taken = inspect.signature(kind).parameters
    argument = next((name for name in SPLITS if name in taken), None)
    if argument is None:
        raise UserError(
            f"data._target_: {kind.__name__} takes neither train nor split, so there is no telling "
            "its test images; write a function that returns mnist_exp.data.pool(name, train, test)."
        )
    train, test = (_load(kind, partial(make, **{argument: value})) for value in SPLITS[argument])
    dataset = pool(
        kind.__name__,
        _arrays(f"{kind.__name__}, training split", train),
        _arrays(f"{kind.__name__}, test split", test),
    )
    names = getattr(train, "classes", None)
    if isinstance(names, (list, tuple)) and len(names) == dataset.num_classes:
        return dataset.named([str(name) for name in names])
    return dataset


def _load(kind: type[Any], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (RuntimeError, OSError, URLError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"data._target_: {kind.__name__} cannot be loaded: {reason}. data.root is where its "
            "files lie, or go where data.download=true may fetch them."
        ) from error


def _arrays(where: str, split: Any) -> tuple[Array, Array]:
    """Return images and labels of a split."""
    images = getattr(split, "data", None)
    labels = next((getattr(split, n) for n in ("targets", "labels") if hasattr(split, n)), None)
    transformed = getattr(split, "transforms", None) or getattr(split, "transform", None)
    if transformed or labels is None or not isinstance(images, (Tensor, np.ndarray)):
        return _fetched(where, split)
    return images, labels if isinstance(labels, Tensor) else np.asarray(labels)


def _fetched(where: str, split: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    images, labels = [], []
    for index in range(len(split)):
        image, label = split[index]
        images.append(np.asarray(image))
        labels.append(int(label))
        if images[-1].shape != images[0].shape:
            raise UserError(
                f"{where}: image 0 is {list(images[0].shape)} and image {index} is "
                f"{list(images[-1].shape)}; expected one size. Resize them: "
                "'+data.transform={_target_: torchvision.transforms.Resize, size: [32,32]}'."
            )
    return np.stack(images), np.array(labels)

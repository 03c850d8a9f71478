"""The data set in memory: images of both splits in one tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.wording import counted


@dataclass(frozen=True)
class Dataset:
    """Training and test images pooled in one tensor, the training images first.

    Attributes
    ----------
    name : str
        Name in plots and results.
    images : Tensor
        uint8, [N, 28, 28].
    labels : Tensor
        int64, [N], values in [0, num_classes).
    num_train : int
        Size of the official training split.
    class_names : tuple of str
        A name for each label.
    """

    name: str
    images: Tensor
    labels: Tensor
    num_train: int
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, the size of the model's last layer."""
        return len(self.class_names)

    @property
    def train_images(self) -> Tensor:
        """uint8, [num_train, 28, 28]."""
        return self.images[: self.num_train]

    @property
    def train_labels(self) -> Tensor:
        """int64, [num_train]."""
        return self.labels[: self.num_train]

    @property
    def test_images(self) -> Tensor:
        """uint8, [N - num_train, 28, 28]."""
        return self.images[self.num_train :]

    @property
    def test_labels(self) -> Tensor:
        """int64, [N - num_train]."""
        return self.labels[self.num_train :]

    def select_classes(self, classes: Sequence[int]) -> Dataset:
        """Keep only some classes and renumber them from 0, in the order given.

        Raises
        ------
        UserError
            If there are fewer than two classes, or one is given twice or does not exist.
        """
        known = range(self.num_classes)
        if len(set(classes)) != len(classes) or len(classes) < 2 or not set(classes) <= set(known):
            raise UserError(
                f"data.classes={list(classes)}: give at least two different labels of "
                f"{self.name}, each in 0..{self.num_classes - 1}, or null for all."
            )
        renumbered = torch.full((self.num_classes,), -1, dtype=torch.int64)
        renumbered[list(classes)] = torch.arange(len(classes))
        labels = renumbered[self.labels]
        keep = labels >= 0
        return replace(
            self,
            images=self.images[keep],
            labels=labels[keep],
            num_train=int(keep[: self.num_train].sum()),
            class_names=tuple(self.class_names[label] for label in classes),
        )

    def pixel_mean_std(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels scaled to [0, 1].

        Computed from the histogram of the 256 grey levels, in one pass over the bytes.
        """
        counts = torch.bincount(self.train_images.flatten(), minlength=256).double()
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts * levels).sum() / counts.sum()
        variance = (counts * (levels - mean) ** 2).sum() / counts.sum()
        return mean.item(), variance.sqrt().item()


def pool(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Build a data set from uint8 images [N, 28, 28] and integer labels [N] of the two splits.

    Without ``class_names`` the classes run from 0 to the largest training label.

    Raises
    ------
    UserError
        If an image is not 28 x 28, counts differ, a split is empty or a label is out of range.
    """
    for split, (images, labels) in (("training", train), ("test", test)):
        if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != torch.uint8:
            raise UserError(
                f"{name}: {split} images are {images.dtype} {list(images.shape)}; "
                "expected torch.uint8 [N, 28, 28]."
            )
        if len(images) != len(labels) or len(images) == 0:
            raise UserError(
                f"{name}: the {split} split has {counted(len(images), 'image')} and "
                f"{counted(len(labels), 'label')}; expected equal counts of at least 1."
            )
    if class_names is None:
        class_names = [str(label) for label in range(int(train[1].max()) + 1)]
    labels = torch.cat([train[1], test[1]]).long()
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(
            f"{name}: labels run from {labels.min()} to {labels.max()}; expected "
            f"0..{len(class_names) - 1} in both splits."
        )
    images = torch.cat([train[0], test[0]])
    return Dataset(name, images, labels, len(train[0]), tuple(class_names))


def sha256(dataset: Dataset) -> str:
    """Return the SHA-256 of the images and labels."""
    digest = hashlib.sha256(dataset.images.contiguous().numpy().data)
    digest.update(dataset.labels.contiguous().numpy().data)
    return digest.hexdigest()

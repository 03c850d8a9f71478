"""The data set in memory: images of both splits in one tensor."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mnist_exp.data.arrays import Array, as_images, as_labels, class_values, listed
from mnist_exp.errors import UserError
from mnist_exp.wording import counted

ImageShape = tuple[int, int, int]  # channels, height, width
MNIST_SHAPE: ImageShape = (1, 28, 28)
# The tensors of the data set whose digest was taken last, their counts of writes, and the digest.
_last_digest: list[tuple[list[weakref.ref[Tensor]], list[int], str]] = []  # one at most


def shown_size(image_shape: ImageShape) -> str:
    """Return a size in words: "28 x 28 pixels", or "32 x 32 pixels in 3 channels"."""
    channels, height, width = image_shape
    return f"{height} x {width} pixels" + (f" in {channels} channels" if channels > 1 else "")


@dataclass(frozen=True)
class Dataset:
    """Training and test images pooled in one tensor, the training images first.

    Attributes
    ----------
    name : str
        Name in plots and results.
    images : Tensor
        uint8, [N, H, W], or [N, 3, H, W] in colour.
    labels : Tensor
        int64, [N], values in [0, num_classes).
    num_train : int
        Size of the official training split.
    class_names : tuple of str
        A name for each label.
    values : tuple of int or None
        What stands for each class in the files, where labels start at 1 or have gaps; None: its
        label.
    """

    name: str
    images: Tensor
    labels: Tensor
    num_train: int
    class_names: tuple[str, ...]
    values: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, the size of the model's last layer."""
        return len(self.class_names)

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height and width."""
        height, width = self.images.shape[-2:]
        return (1 if self.images.ndim == 3 else self.images.shape[1]), height, width

    @property
    def train_images(self) -> Tensor:
        """uint8, the first num_train images."""
        return self.images[: self.num_train]

    @property
    def train_labels(self) -> Tensor:
        """int64, [num_train]."""
        return self.labels[: self.num_train]

    @property
    def test_images(self) -> Tensor:
        """uint8, the other images."""
        return self.images[self.num_train :]

    @property
    def test_labels(self) -> Tensor:
        """int64, [N - num_train]."""
        return self.labels[self.num_train :]

    def select_classes(self, classes: Sequence[int]) -> Dataset:
        """Keep only some classes, by their labels in the files, renumbered in the order given.

        Raises
        ------
        UserError
            If there are fewer than two classes, or one is given twice or does not exist.
        """
        known = self.values or tuple(range(self.num_classes))
        if len(set(classes)) != len(classes) or len(classes) < 2 or not set(classes) <= set(known):
            raise UserError(
                f"data.classes={list(classes)}: give at least two different labels of "
                f"{self.name}, out of {listed(known)}, or null for all."
            )
        chosen = [known.index(label) for label in classes]
        renumbered = torch.full((self.num_classes,), -1, dtype=torch.int64)
        renumbered[chosen] = torch.arange(len(chosen))
        labels = renumbered[self.labels]
        keep = labels >= 0
        return replace(
            self,
            images=self.images[keep],
            labels=labels[keep],
            num_train=int(keep[: self.num_train].sum()),
            class_names=tuple(self.class_names[label] for label in chosen),
            values=tuple(classes),
        )

    def named(self, class_names: Sequence[str]) -> Dataset:
        """Return the data set with other names of its classes, in their order.

        Raises
        ------
        UserError
            Unless there is one name a class.
        """
        if len(class_names) != self.num_classes:
            raise UserError(
                f"data.class_names={list(class_names)}: {self.name} has {self.num_classes} "
                f"classes ({listed(self.values or range(self.num_classes))}); give a name for "
                "each, in this order."
            )
        return replace(self, class_names=tuple(class_names))

    def transposed(self) -> Dataset:
        """Return the data set with height and width of its images swapped."""
        return replace(self, images=self.images.transpose(-2, -1).contiguous())

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
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Build a data set from the images and labels of the two splits.

    Parameters
    ----------
    name : str
        The data set's name.
    train, test : tuple of Tensor or ndarray
        Images, uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels; and labels,
        whole numbers [N].
    class_names : sequence of str, optional
        Names of the labels 0, 1, 2, ... Without them there is a class for each label that occurs
        in training, named by it.

    Raises
    ------
    UserError
        If images are of another type or shape or of several sizes, counts differ, a split is empty,
        there are fewer than two classes, or a test label is unknown.
    """
    splits = []
    for split, (images, labels) in (("training", train), ("test", test)):
        where = f"{name}, {split} split"
        if len(images) != len(labels) or len(images) == 0:
            raise UserError(
                f"{name}: the {split} split has {counted(len(images), 'image')} and "
                f"{counted(len(labels), 'label')}; expected equal counts of at least 1."
            )
        splits.append((as_images(where, images), as_labels(where, labels)))
    (train_images, train_labels), (test_images, test_labels) = splits
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(
            f"{name}: training images are {list(train_images.shape[1:])} and test images "
            f"{list(test_images.shape[1:])}; expected one size."
        )
    labels, values = torch.cat([train_labels, test_labels]), None
    if class_names is None:
        known = class_values(name, train_labels, test_labels)
        class_names = [str(value) for value in known]
        if known != tuple(range(len(known))):
            values, labels = known, torch.searchsorted(torch.tensor(known), labels)
    elif labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(
            f"{name}: labels run from {labels.min()} to {labels.max()}; expected 0 to "
            f"{len(class_names) - 1} for its {len(class_names)} class names."
        )
    images = torch.cat([train_images, test_images])
    return Dataset(name, images, labels, len(train_labels), tuple(class_names), values)


def sha256(dataset: Dataset) -> str:
    """Return the SHA-256 of the images and labels; that of the last data set is remembered."""
    tensors = (dataset.images, dataset.labels)
    writes = [tensor._version for tensor in tensors]
    for kept, writes_then, found in _last_digest:
        if writes == writes_then and all(k() is t for k, t in zip(kept, tensors, strict=True)):
            return found
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data)
    _last_digest[:] = [([weakref.ref(tensor) for tensor in tensors], writes, digest.hexdigest())]
    return digest.hexdigest()

"""Cross-validation schemes: training, validation and test images of each fold."""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.schema.parts import HOLDOUT
from mnist_exp.schema.rule import check_settings
from mnist_exp.wording import counted


@dataclass(frozen=True)
class Split:
    """Indices into ``Dataset.images``, int64, pairwise disjoint.

    Attributes
    ----------
    train : Tensor
        Images the weights are fitted to.
    validation : Tensor or None
        Images for choosing an epoch.
    test : Tensor
        Images behind the reported numbers; with k-fold, the held-out fold.
    fold : int or None
        From 1; None if there is only one split.
    """

    train: Tensor
    validation: Tensor | None
    test: Tensor
    fold: int | None = None

    @property
    def parts(self) -> dict[str, Tensor]:
        """The parts that are present, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: indices for name, indices in parts.items() if indices is not None}

    def sha256(self) -> str:
        """Return the SHA-256 of the names, sizes and indices of the parts."""
        digest = hashlib.sha256()
        for name, indices in self.parts.items():
            digest.update(f"{name} {len(indices)} ".encode())
            digest.update(indices.to("cpu", torch.int64).numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def check(self, num_images: int) -> None:
        """Check the indices of a split, which may come from a user's scheme or splitter.

        Raises
        ------
        UserError
            If a part is empty, an index is out of range, or two parts share an image.
        """
        where = "cv" if self.fold is None else f"cv: fold {self.fold}"
        part_of = np.full(num_images, "", dtype=object)  # by image
        for name, indices in self.parts.items():
            rows = indices.cpu().numpy()
            if len(rows) == 0 or rows.min() < 0 or rows.max() >= num_images:
                raise UserError(
                    f"{where}: the {name} part has {len(rows)} indices"
                    + (f" from {rows.min()} to {rows.max()}" if len(rows) else "")
                    + f"; allowed is one or more, from 0 to {num_images - 1}."
                )
            shared = rows[part_of[rows] != ""]
            if len(shared):
                raise UserError(
                    f"{where}: image {shared[0]} is in the {part_of[shared[0]]} part and in the "
                    f"{name} part ({len(shared)} shared in all); the parts must be disjoint."
                )
            part_of[rows] = name


class Scheme(Protocol):
    """Interface of ``cv``: splits of a data set."""

    def splits(self, dataset: Dataset, seed: int) -> list[Split]:
        """Return the splits, at least one."""


@dataclass(frozen=True)
class Holdout:
    """The official test split, and the official training split divided with equal class shares.

    Attributes
    ----------
    train, validation, test : int or None
        Number of images; None: the rest (``validation``: 0). Validation images, and a test set
        smaller than the official one, are drawn with the run's seed, stratified.
    """

    train: int | None = None
    validation: int | None = 5000
    test: int | None = None

    def __post_init__(self) -> None:
        check_settings(HOLDOUT, vars(self), "cv")

    def splits(self, dataset: Dataset, seed: int) -> list[Split]:
        """Return the one split.

        Raises
        ------
        UserError
            If the sizes do not add up to the data set's.
        """
        official = len(dataset.train_labels)
        validation_size = self.validation or 0
        train_size = official - validation_size if self.train is None else self.train
        if train_size < 1 or train_size + validation_size != official:
            sizes = f"cv.validation={validation_size}: leaves nothing to train on of"
            if self.train is not None:
                sizes = f"cv.train={self.train}, cv.validation={validation_size}: do not add up to"
            raise UserError(
                f"{sizes} the {official} training images of {dataset.name}. "
                f"{_remedy(self.train, validation_size, official)}"
            )
        labels = dataset.labels.numpy()
        train, validation = _stratified(np.arange(official), labels, validation_size, seed)
        test_indices = np.arange(official, len(labels))
        test_size = len(test_indices) if self.test is None else self.test
        if test_size > len(test_indices):
            raise UserError(
                f"cv.test={self.test}: {dataset.name} has "
                f"{counted(len(test_indices), 'test image')}; allowed is 1 to that many, or null "
                "for all."
            )
        if test_size < len(test_indices):
            _, test_indices = _stratified(test_indices, labels, test_size, seed)
        return [
            Split(
                torch.from_numpy(train),
                torch.from_numpy(validation) if validation_size else None,
                torch.from_numpy(test_indices),
            )
        ]


def _remedy(train: int | None, validation: int, official: int) -> str:
    """Return what to set so that the sizes of a holdout add up."""
    if validation >= official:
        return (
            f"Set cv.train=null and cv.validation to less than {official}, such as "
            f"{official // 10}: training takes the rest."
        )
    left = official - validation
    if train is None or not 1 <= train < official:
        return f"Set cv.train=null, which trains on the {left} images that validation leaves."
    return (
        f"Set cv.validation={official - train}; or cv.train=null, which trains on the {left} "
        f"images that validation leaves, and data.subset={train} to train on fewer of them."
    )


class SklearnSplitter(Protocol):
    """Any splitter of ``sklearn.model_selection``."""

    def split(self, X: np.ndarray, y: np.ndarray) -> object:
        """Yield pairs of training and held-out indices."""


@dataclass(frozen=True)
class PooledFolds:
    """Folds of a scikit-learn splitter over the pooled training and test images.

    Attributes
    ----------
    splitter : SklearnSplitter
        Such as ``sklearn.model_selection.StratifiedKFold``.
    """

    splitter: SklearnSplitter

    def splits(self, dataset: Dataset, seed: int) -> list[Split]:
        """Return one split per fold, drawn by the splitter's ``random_state`` or else by ``seed``.

        scikit-learn's default, ``random_state=None``, would draw different folds at each call.

        Raises
        ------
        UserError
            If the splitter fails, for instance on more folds than images in the smallest class.
        """
        labels = dataset.labels.numpy()
        smallest = int(np.bincount(labels).min())
        # a repeated splitter keeps the arguments of the inner one in cvargs
        of_repeated = getattr(self.splitter, "cvargs", {}).get("n_splits", 1)
        n_splits = getattr(self.splitter, "n_splits", of_repeated)
        if n_splits > smallest and "Stratified" in type(self.splitter).__name__:
            raise UserError(
                f"cv.n_splits={n_splits}: the smallest class has {counted(smallest, 'image')}; "
                f"allowed is 2 to {smallest}."
            )
        splitter = self.splitter
        if getattr(splitter, "random_state", 0) is None:
            splitter = copy(splitter)
            splitter.random_state = seed  # type: ignore[attr-defined]
        try:
            folds = list(splitter.split(np.zeros(len(labels)), labels))  # type: ignore[call-overload]
        except ValueError as error:
            raise UserError(f"cv: {type(self.splitter).__name__} refuses: {error}") from error
        return [
            Split(torch.from_numpy(train), None, torch.from_numpy(held_out), fold)
            for fold, (train, held_out) in enumerate(folds, start=1)
        ]


def stratified_subset(indices: Tensor, labels: Tensor, size: int, seed: int) -> Tensor:
    """Draw ``size`` of ``indices`` with the class shares of ``labels[indices]``.

    Raises
    ------
    UserError
        If ``size`` is below the number of classes or above the number of indices.
    """
    if size == len(indices):
        return indices
    num_classes = len(labels[indices].unique())
    if not num_classes <= size <= len(indices):
        raise UserError(
            f"data.subset={size}: allowed is {num_classes} (one image a class) to "
            f"{len(indices)}, or null for all."
        )
    if size > len(indices) - num_classes:
        raise UserError(
            f"data.subset={size}: leaves fewer than one image of each class of {len(indices)}; "
            f"allowed is up to {len(indices) - num_classes}, or null for all."
        )
    _, subset = _stratified(indices.numpy(), labels.numpy(), size, seed)
    return torch.from_numpy(subset)


def _stratified(
    indices: np.ndarray, labels: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split ``indices`` into two sorted parts of equal class shares, the second of ``size``.

    The parts are those of scikit-learn's ``train_test_split(stratify=...)``, which takes over a
    second to import: the same random numbers are drawn in the same order.
    """
    if size == 0:
        return indices, indices[:0]
    classes, class_of, counts = np.unique(labels[indices], return_inverse=True, return_counts=True)
    few, many = len(classes), len(indices) - len(classes)
    if counts.min() < 2 or not few <= size <= many:
        reason = f"there are {few} classes; allowed is {few} to {many}, and 0."
        if counts.min() < 2:
            reason = f"there is only one image of class {classes[counts.argmin()]}."
        raise UserError(
            f"{size} of {len(indices)} images cannot be drawn with every class in both parts: "
            f"{reason}"
        )
    rng = np.random.RandomState(seed)
    first_counts = _counts_by_class(counts, len(indices) - size, rng)
    second_counts = _counts_by_class(counts - first_counts, size, rng)
    first, second = [], []
    for label, (a, b) in enumerate(zip(first_counts, second_counts, strict=True)):
        own = indices[class_of == label]
        own = own[rng.permutation(len(own))]
        first.append(own[:a])
        second.append(own[a : a + b])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _counts_by_class(counts: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Share ``size`` images among classes by their ``counts``; largest remainders round up."""
    exact = counts / counts.sum() * size
    shared = np.floor(exact)
    remainder = exact - shared
    missing = int(size - shared.sum())
    for value in np.unique(remainder)[::-1]:
        if missing == 0:
            break
        (tied,) = np.nonzero(remainder == value)
        tied = rng.choice(tied, size=min(len(tied), missing), replace=False)
        shared[tied] += 1
        missing -= len(tied)
    return shared.astype(int)

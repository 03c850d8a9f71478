"""Cross-validation: splits are disjoint, complete, stratified and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold

from mnist_exp.cv import Holdout, PooledFolds, Split, stratified_subset
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError


def parts(split: Split) -> list[np.ndarray]:
    tensors = (split.train, split.validation, split.test)
    return [part.numpy() for part in tensors if part is not None]


def shares(dataset: Dataset, indices: torch.Tensor) -> torch.Tensor:
    return dataset.labels[indices].bincount(minlength=10) / len(indices)


@pytest.mark.parametrize("validation", [0, 50, 5000])
def test_holdout_partitions_the_official_splits(mnist: Dataset, validation: int) -> None:
    (split,) = Holdout(None, validation, None).splits(mnist, seed=1)
    assert len(split.train) == 60_000 - validation
    assert (split.validation is None) == (validation == 0)
    assert split.test.tolist() == list(range(60_000, 70_000))
    everything = np.concatenate(parts(split))
    np.testing.assert_array_equal(np.sort(everything), np.arange(70_000))


def test_holdout_is_stratified_and_follows_the_seed(mnist: Dataset) -> None:
    scheme = Holdout(None, 5000, None)
    first, again, other = (scheme.splits(mnist, seed)[0].validation for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None  # noqa: PT018
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(
        shares(mnist, first), shares(mnist, torch.arange(60_000)), atol=2e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((100, 5000, None), "100 [+] 5000 images do not add up to the 60000"),
        ((60_000, 1, None), "do not add up"),
        ((None, 60_000, None), "do not add up"),
        ((None, 0, 10_001), "cv.test=10001"),
        ((None, 0, 0), "cv.test=0"),
        ((None, 5, None), "5"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused(
    mnist: Dataset, sizes: tuple[int | None, int | None, int | None], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Holdout(*sizes).splits(mnist, seed=0)


@pytest.mark.parametrize("n_splits", [2, 5])
def test_folds_partition_the_pool_and_keep_class_shares(mnist: Dataset, n_splits: int) -> None:
    scheme = PooledFolds(StratifiedKFold(n_splits, shuffle=True, random_state=42))
    splits = scheme.splits(mnist, seed=0)
    assert [split.fold for split in splits] == list(range(1, n_splits + 1))
    held_out = np.concatenate([split.test.numpy() for split in splits])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(70_000))
    everyone = shares(mnist, torch.arange(70_000))
    for split in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate(parts(split))), np.arange(70_000))
        torch.testing.assert_close(shares(mnist, split.test), everyone, atol=2e-4, rtol=0)


@pytest.mark.parametrize("splitter", [StratifiedKFold, RepeatedStratifiedKFold])
def test_more_folds_than_the_smallest_class_has_images_is_refused(
    mnist: Dataset, splitter: type
) -> None:
    scheme = PooledFolds(splitter(n_splits=6314))  # there are 6,313 fives
    with pytest.raises(UserError, match=r"cv\.n_splits=6314: the smallest class has 6313"):
        scheme.splits(mnist, seed=0)


@given(size=st.integers(10, 2000), seed=st.integers(0, 5))
def test_subset_is_drawn_from_the_indices_with_their_class_shares(
    mnist: Dataset, size: int, seed: int
) -> None:
    indices = torch.arange(2010)
    subset = stratified_subset(indices, mnist.labels, size, seed)
    assert len(subset) == len(subset.unique()) == size
    assert set(subset.tolist()) <= set(indices.tolist())
    difference = shares(mnist, subset) - shares(mnist, indices)
    assert difference.abs().max() * size <= 1.5


@pytest.mark.parametrize("size", [9, 60_001])
def test_impossible_subset_is_refused(mnist: Dataset, size: int) -> None:
    with pytest.raises(UserError, match=rf"data\.subset={size}: allowed is 10"):
        stratified_subset(torch.arange(60_000), mnist.labels, size, 0)

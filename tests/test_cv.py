"""Cross-validation: splits are disjoint, complete, stratified and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold, train_test_split

from mnist_exp.cv import Holdout, PooledFolds, Split, _stratified, stratified_subset
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
        (
            (100, 5000, None),
            "cv.train=100, cv.validation=5000: do not add up to the 60000.*Set cv.validation=59900",
        ),
        ((60_000, 1, None), "do not add up.*Set cv.train=null, which trains on the 59999 images"),
        ((None, 60_000, None), "leaves nothing.*cv.validation to less than 60000, such"),
        ((None, 0, 10_001), "cv.test=10001"),
        ((None, 0, 0), "cv.test=0"),
        ((None, 5, None), "5 of 60000 images cannot.*10 classes; allowed is 10 to 59990, and 0"),
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
    with pytest.raises(UserError, match=r"cv\.n_splits=6314: the smallest class has 6,313"):
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


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_images_are_drawn_as_scikit_learn_does(counts: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    few, many = len(counts), len(labels) - len(counts)
    size = round(few + share * (many - few))
    indices = np.arange(100, 100 + len(labels))
    ours = _stratified(indices, np.concatenate([np.zeros(100, int), labels]), size, seed)
    theirs = train_test_split(indices, test_size=size, stratify=labels, random_state=seed)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own, np.sort(other))


def test_the_validation_images_of_mnist_are_those_that_scikit_learn_draws(mnist: Dataset) -> None:
    labels = mnist.labels.numpy()[:60_000]
    theirs = train_test_split(np.arange(60_000), test_size=5000, stratify=labels, random_state=0)
    validation = Holdout().splits(mnist, seed=0)[0].validation
    assert validation is not None
    np.testing.assert_array_equal(validation.numpy(), np.sort(theirs[1]))


def test_a_class_of_a_single_image_cannot_be_in_both_parts() -> None:
    with pytest.raises(UserError, match=r"1 of 4 images cannot.*only one image of class 7"):
        _stratified(np.arange(4), np.array([7, 3, 3, 3]), 1, 0)


@pytest.mark.parametrize("size", [9, 60_001])
def test_impossible_subset_is_refused(mnist: Dataset, size: int) -> None:
    with pytest.raises(UserError, match=rf"data\.subset={size}: allowed is 10"):
        stratified_subset(torch.arange(60_000), mnist.labels, size, 0)


@pytest.mark.parametrize(
    "splitter", [StratifiedKFold(3, shuffle=True), RepeatedStratifiedKFold(n_splits=2, n_repeats=2)]
)
def test_an_unseeded_splitter_draws_by_the_seed_of_the_run(
    mnist: Dataset, splitter: StratifiedKFold
) -> None:
    first, again, other = (
        [split.sha256() for split in PooledFolds(splitter).splits(mnist, seed)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert not set(first) & set(other)
    assert splitter.random_state is None


def test_a_seeded_splitter_keeps_its_own_seed(mnist: Dataset) -> None:
    scheme = PooledFolds(StratifiedKFold(3, shuffle=True, random_state=42))
    assert [split.sha256() for split in scheme.splits(mnist, 0)] == [
        split.sha256() for split in scheme.splits(mnist, 1)
    ]


def test_the_checksum_of_a_split_is_of_its_indices_and_their_parts() -> None:
    one, two, three = torch.arange(3), torch.arange(3, 5), torch.arange(5, 9)
    splits = [
        Split(one, two, three),
        Split(one, None, torch.cat([two, three])),
        Split(torch.cat([one, two]), None, three),
        Split(one.flip(0), two, three),
        Split(one, three, two),
    ]
    assert len({split.sha256() for split in splits}) == len(splits)
    assert Split(one.int(), two, three, fold=1).sha256() == splits[0].sha256()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1, 2], [2, 3], "image 2 is in the train part and in the test part"),
        ([], [2, 3], "the train part has 0 indices"),
        ([0, 1], [2, 10], r"the test part has 2 indices from 2 to 10; allowed .* 0 to 9"),
        ([-1, 1], [2, 3], r"the train part has 2 indices from -1"),
    ],
)
def test_a_split_that_would_mix_its_parts_is_refused(
    train: list[int], test: list[int], message: str
) -> None:
    split = Split(torch.tensor(train, dtype=torch.int64), None, torch.tensor(test), fold=2)
    with pytest.raises(UserError, match=f"cv: fold 2: {message}"):
        split.check(10)


def test_drawing_a_training_image_twice_is_no_mistake() -> None:
    Split(torch.tensor([0, 0, 1]), None, torch.tensor([2])).check(3)

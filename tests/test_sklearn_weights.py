"""The scikit-learn classifier: weights of samples and classes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional as F

from mnist_exp import PyTorchNNWrapper
from mnist_exp.data import Dataset
from mnist_exp.models import MLP
from tests.test_sklearn import ORDINARY, same_weights

Samples = tuple[np.ndarray, np.ndarray]
FULL_BATCH: dict[str, Any] = {
    **ORDINARY,
    "batch_size": 10_000,
    "scheduler": "constant",
    "momentum": 0.0,
    "epochs": 5,
    "device": "cpu",
    "random_state": 1,
}


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Samples:
    """300 images of MNIST as rows of pixels in [0, 1], and their labels."""
    pixels = mnist.train_images[:300].reshape(300, -1)
    return (pixels.float() * (1 / 255)).numpy(), mnist.train_labels[:300].numpy()


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Weights from 0 to 4, whole numbers."""
    return np.random.RandomState(0).randint(0, 5, size=300)


def assert_close(one: PyTorchNNWrapper, other: PyTorchNNWrapper) -> None:
    for a, b in zip(one.model_.parameters(), other.model_.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_batch_s_loss_is_the_weighted_mean(digits: Samples) -> None:
    weights = np.random.RandomState(0).uniform(0.1, 3, size=300)
    settings: dict[str, Any] = {**FULL_BATCH, "batch_size": 64, "epochs": 3}
    settings |= {"lr_pos": 0.5, "lr_neg": 0.5, "label_smoothing": 0.1}
    fitted = PyTorchNNWrapper(**settings).fit(*digits, sample_weight=weights)
    X, y = (torch.from_numpy(part) for part in digits)
    torch.manual_seed(1)
    model = MLP(hidden_sizes=[100], num_classes=10, activation="relu", dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(1)
    course = []
    for _ in range(3):
        in_epoch = 0.0
        for batch in torch.randperm(300, generator=generator).split(64):
            losses = [
                weights[i] * F.cross_entropy(model(X[i : i + 1]), y[i : i + 1], label_smoothing=0.1)
                for i in batch.tolist()
            ]
            loss = torch.stack(losses).sum() / weights[batch].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            in_epoch += loss.item() * len(batch) / 300
        course.append(in_epoch)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(
            weight.double(), fitted.model_.state_dict()[name], rtol=1e-4, atol=1e-6
        )
    assert fitted.loss_curve_ == pytest.approx(course)


def test_samples_of_weight_0_are_left_out_bit_for_bit(digits: Samples) -> None:
    """In batches, too, on devices that round stochastically."""
    X, y = digits
    there = np.arange(300) % 3 > 0
    settings: dict[str, Any] = {"batch_size": 32, "random_state": 0, "epochs": 2}
    removed = PyTorchNNWrapper(**settings).fit(X[there], y[there])
    assert same_weights(removed, PyTorchNNWrapper(**settings).fit(X, y, sample_weight=there))
    by_class = PyTorchNNWrapper(**settings, class_weight={3: 0.0}).fit(X, y)
    without = np.float64(y != 3)
    assert same_weights(by_class, PyTorchNNWrapper(**settings).fit(X, y, sample_weight=without))
    assert by_class.classes_.tolist() == list(range(10))


def test_a_whole_weight_counts_as_that_many_copies(digits: Samples, counts: np.ndarray) -> None:
    X, y = digits
    for class_weight in (None, "balanced", {2: 3.0, 7: 0.5}):
        settings = {**FULL_BATCH, "class_weight": class_weight}
        weighted = PyTorchNNWrapper(**settings).fit(X, y, sample_weight=counts)
        copied = PyTorchNNWrapper(**settings).fit(X.repeat(counts, axis=0), y.repeat(counts))
        assert_close(weighted, copied)
        assert weighted.loss_curve_ == pytest.approx(copied.loss_curve_, rel=1e-5)
        plain = PyTorchNNWrapper(**FULL_BATCH).fit(X, y)
        with pytest.raises(AssertionError):
            assert_close(weighted, plain)


@pytest.mark.parametrize("class_weight", ["balanced", {"one": 2.5, "seven": 0.25}])
def test_weights_of_classes_multiply_those_of_samples(
    digits: Samples, class_weight: dict[str, float] | str
) -> None:
    X, numbers = digits
    y = np.where(numbers == 1, "one", np.where(numbers == 7, "seven", "other"))
    settings: dict[str, Any] = {"batch_size": 50, "random_state": 0, "epochs": 2}
    classifier = PyTorchNNWrapper(**settings, class_weight=class_weight)
    by_sample = compute_sample_weight(class_weight, y)
    expected = PyTorchNNWrapper(**settings).fit(X, y, sample_weight=by_sample)
    assert_close(classifier.fit(X, y), expected)
    if class_weight != "balanced":  # which takes the weights of samples into account
        own = np.linspace(0.5, 2, len(y))
        expected.fit(X, y, sample_weight=own * by_sample)
        assert_close(classifier.fit(X, y, sample_weight=own), expected)


def test_equal_weights_train_bit_for_bit_as_none(digits: Samples) -> None:
    settings: dict[str, Any] = {**ORDINARY, "batch_size": 50, "random_state": 0, "epochs": 2}
    plain = PyTorchNNWrapper(**settings).fit(*digits)
    for weights in (np.ones(300), [3] * 300, 0.1):
        fitted = PyTorchNNWrapper(**settings).fit(*digits, sample_weight=weights)
        assert same_weights(plain, fitted)


@pytest.mark.parametrize(("small", "large"), [(1e-60, 1.0), (1e250, 1e308)])
def test_weights_of_any_size_train(digits: Samples, small: float, large: float) -> None:
    """Batches without one of the three large weights, too."""
    weights = np.full(300, small)
    weights[:3] = large
    fitted = PyTorchNNWrapper(batch_size=32, random_state=0).fit(*digits, sample_weight=weights)
    assert np.isfinite(fitted.loss_curve_).all()
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


def test_partial_fit_takes_weights(digits: Samples, counts: np.ndarray) -> None:
    settings: dict[str, Any] = {"scheduler": "constant", "random_state": 5, "batch_size": 50}
    settings["class_weight"] = {1: 2.0}
    whole = PyTorchNNWrapper(**settings, epochs=2).fit(*digits, sample_weight=counts)
    parts = PyTorchNNWrapper(**settings)
    parts.partial_fit(*digits, classes=range(10), sample_weight=counts)
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(*digits, sample_weight=counts)
    assert same_weights(whole, parts)


@pytest.mark.parametrize(
    ("class_weight", "sample_weight", "words"),
    [
        (None, [-1.0] + [1.0] * 299, "Negative values in data passed to `sample_weight`"),
        (None, [1.0] * 299, "sample_weight"),
        (None, [np.nan] * 300, "sample_weight contains NaN"),
        (None, [0.0] * 300, "zero"),
        (dict.fromkeys(range(10), 0), None, "all weights are zero; at least one must be above 0"),
        ("even", None, "class_weight='even': allowed are a dict from label to weight, 'balanced'"),
        ({3: -1}, None, "class_weight={3: -1}: allowed are numbers of at least 0"),
        ({3: np.nan}, None, "class_weight={3: nan}: allowed are numbers of at least 0"),
        ({"three": 2}, None, r"not in\s+class_weight"),
    ],
)
def test_wrong_weights_are_refused(
    digits: Samples, class_weight: Any, sample_weight: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        PyTorchNNWrapper(class_weight=class_weight).fit(*digits, sample_weight=sample_weight)


@pytest.mark.parametrize("setting", [{"class_weight": "balanced"}, {"early_stopping": True}])
def test_partial_fit_refuses_what_needs_all_samples(
    digits: Samples, setting: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="allowed are early_stopping=False, and class_weight"):
        PyTorchNNWrapper(**setting).partial_fit(*digits, classes=range(10))

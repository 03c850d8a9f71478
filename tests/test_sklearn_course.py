"""The scikit-learn classifier: the course of its training, warm starts and early stopping."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from mnist_exp import PyTorchNNWrapper
from mnist_exp.data import Dataset
from tests.test_sklearn import ORDINARY, same_weights

Samples = tuple[np.ndarray, np.ndarray]
STOPPING: dict[str, Any] = {
    "early_stopping": True,
    "validation_fraction": 0.2,
    "n_iter_no_change": 3,
    "epochs": 60,
    "scheduler": "constant",
    "batch_size": 40,
    "lr_pos": 0.03,
    "lr_neg": 0.03,
    "random_state": 2,
}


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Samples:
    """400 images of MNIST as rows of pixels in [0, 1], and their labels."""
    pixels = mnist.train_images[:400].reshape(400, -1)
    return (pixels.float() * (1 / 255)).numpy(), mnist.train_labels[:400].numpy()


@pytest.fixture(scope="module")
def parts(digits: Samples) -> tuple[Samples, Samples]:
    """What `STOPPING` trains on and holds back."""
    trained, held = train_test_split(
        np.arange(400), test_size=0.2, stratify=digits[1], random_state=2
    )
    X, y = digits
    trained.sort()
    return (X[trained], y[trained]), (X[held], y[held])


def test_names_and_defaults_are_those_of_scikit_learns_own_network() -> None:
    own, theirs = PyTorchNNWrapper().get_params(), MLPClassifier().get_params()
    names = ("warm_start", "early_stopping", "validation_fraction", "n_iter_no_change", "tol")
    for name in (*names, "verbose"):
        assert own[name] == theirs[name], name


def test_attributes_tell_the_course_of_the_training(digits: Samples) -> None:
    fitted = PyTorchNNWrapper(epochs=3, random_state=0).fit(*digits)
    assert fitted.loss_curve_ == [row["train_loss"] for row in fitted.history_]
    assert (len(fitted.loss_curve_), fitted.n_iter_) == (3, 3)
    assert fitted.validation_scores_ is fitted.best_validation_score_ is None
    fitted.partial_fit(*digits)
    assert (len(fitted.loss_curve_), fitted.n_iter_) == (4, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mapping": "direct", "rounding": "accumulate", "W_min": -1.0, "W_max": 1.0},
        {"pulse_rounding": "stochastic", "write_noise": 0.03, "rate_variation": 0.1},
        ORDINARY,
    ],
)
def test_warm_starts_add_up_to_one_fit(digits: Samples, settings: dict[str, Any]) -> None:
    settings = {**settings, "scheduler": "constant", "random_state": 5, "batch_size": 100}
    whole = PyTorchNNWrapper(**settings, epochs=4).fit(*digits)
    parts = PyTorchNNWrapper(**settings, epochs=2, warm_start=True).fit(*digits)
    parts = pickle.loads(pickle.dumps(parts)).fit(*digits)
    assert same_weights(whole, parts)
    assert whole.loss_curve_ == parts.loss_curve_
    assert (whole.n_iter_, parts.n_iter_) == (4, 2)


def test_a_warm_start_begins_a_new_cycle_of_rates(digits: Samples) -> None:
    fitted = PyTorchNNWrapper(epochs=3, warm_start=True, random_state=0, batch_size=40)
    fitted.fit(*digits).fit(*digits)
    rates = [row["lr"] for row in fitted.history_]
    assert rates[:3] == rates[3:]
    assert max(fitted.loss_curve_[3:]) < min(fitted.loss_curve_[:3])


def test_without_a_warm_start_fit_begins_anew(digits: Samples) -> None:
    once = PyTorchNNWrapper(epochs=2, random_state=0).fit(*digits)
    twice = clone(once).fit(*digits).fit(*digits)
    assert same_weights(once, twice)
    assert len(twice.history_) == 2
    fewer = twice.fit(digits[0][:, 200:500], digits[1] % 2)
    assert (fewer.n_features_in_, len(fewer.classes_)) == (300, 2)


def test_a_warm_start_goes_on_after_partial_fit(digits: Samples) -> None:
    settings: dict[str, Any] = {"scheduler": "constant", "random_state": 5, "epochs": 1}
    one = PyTorchNNWrapper(**settings).partial_fit(*digits, classes=range(10)).partial_fit(*digits)
    other = PyTorchNNWrapper(**settings, warm_start=True).partial_fit(*digits, classes=range(10))
    assert same_weights(one, other.fit(*digits))


@pytest.mark.filterwarnings("ignore:.* of the initial weights")  # direct stays at chance
def test_a_warm_start_on_what_does_not_fit_is_refused(digits: Samples) -> None:
    X, y = digits
    fitted = PyTorchNNWrapper(epochs=1, warm_start=True, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="expecting 784 features"):
        fitted.fit(X[:, :50], y)
    with pytest.raises(ValueError, match=r"y holds \[10 11\]"):
        fitted.fit(X, y + 2)
    for changed in ({"hidden_dim": 30}, {"mapping": "direct"}, {"rate_variation": 0.1}):
        other = pickle.loads(pickle.dumps(fitted)).set_params(**changed)
        with pytest.raises(ValueError, match="hidden_dim or a setting of its devices has changed"):
            other.fit(X, y)
        with pytest.raises(ValueError, match="hidden_dim or a setting of its devices has changed"):
            other.partial_fit(X, y)
        assert len(other.set_params(warm_start=False).fit(X, y).history_) == 1


def slow_early_stopping(
    parts: tuple[Samples, Samples], **settings: Any
) -> tuple[list[PyTorchNNWrapper], list[float]]:
    """Train epoch by epoch until the score has not risen for as long as is allowed."""
    trained, held = parts
    parameters = {**STOPPING, **settings}
    classifier = PyTorchNNWrapper(**{**parameters, "early_stopping": False})
    epochs: list[PyTorchNNWrapper] = []
    scores: list[float] = []
    best, waited = -1.0, 0
    while waited < parameters["n_iter_no_change"] and len(epochs) < parameters["epochs"]:
        classifier.partial_fit(*trained, classes=np.arange(10))
        epochs.append(pickle.loads(pickle.dumps(classifier)))
        scores.append(classifier.score(*held))
        risen = scores[-1] > best + parameters.get("tol", 1e-4)
        best, waited = (scores[-1], 0) if risen else (best, waited + 1)
    return epochs, scores


@pytest.mark.parametrize(
    "settings",
    [{}, {"tol": 0.04}, {"epochs": 5}, {"rounding": "accumulate", "n_iter_no_change": 1}],
)
def test_early_stopping_is_that_of_the_obvious_loop(
    digits: Samples, parts: tuple[Samples, Samples], settings: dict[str, Any]
) -> None:
    epochs, scores = slow_early_stopping(parts, **settings)
    fitted = PyTorchNNWrapper(**{**STOPPING, **settings}).fit(*digits)
    assert fitted.validation_scores_ == pytest.approx(scores, abs=1e-12)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == len(scores)
    assert (fitted.n_iter_ < STOPPING["epochs"]) or "epochs" in settings
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert same_weights(fitted, epochs[int(np.argmax(scores))])
    assert fitted.score(*parts[1]) == pytest.approx(max(scores))


@pytest.mark.parametrize("device", [{"quantize": False}, {"rounding": "accumulate"}])
def test_what_follows_early_stopping_starts_from_the_best_epoch(
    digits: Samples, device: dict[str, Any]
) -> None:
    """With rates near 0 and no drift, nothing changes any more."""
    fitted = PyTorchNNWrapper(**STOPPING, **device, retain=False).fit(*digits)
    assert np.argmax(fitted.validation_scores_) < fitted.n_iter_ - 1
    frozen = pickle.loads(pickle.dumps(fitted))
    frozen.set_params(lr_pos=1e-30, lr_neg=1e-30, momentum=0.0, early_stopping=False)
    frozen.partial_fit(*digits)
    for a, b in zip(fitted.model_.parameters(), frozen.model_.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-9
    assert [row["epoch"] for row in frozen.history_] == list(range(1, fitted.n_iter_ + 2))


def test_momentum_goes_on_from_the_best_epoch(
    digits: Samples, parts: tuple[Samples, Samples]
) -> None:
    """In full batches, whose order does not matter."""
    settings: dict[str, Any] = {**ORDINARY, "batch_size": 1000, "lr_pos": 0.1, "lr_neg": 0.1}
    epochs, scores = slow_early_stopping(parts, **settings)
    fitted = PyTorchNNWrapper(**{**STOPPING, **settings}).fit(*digits)
    expected = epochs[int(np.argmax(scores))].partial_fit(*parts[0])
    fitted.set_params(early_stopping=False).partial_fit(*parts[0])
    for a, b in zip(expected.model_.parameters(), fitted.model_.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_warm_start_has_the_best_epoch_so_far_to_beat(digits: Samples) -> None:
    """On the same held-back samples, even if ``random_state`` draws others each time."""
    stream = np.random.RandomState(0)
    fitted = PyTorchNNWrapper(**{**STOPPING, "random_state": stream}, warm_start=True).fit(*digits)
    first, epochs, best = pickle.loads(pickle.dumps(fitted)), fitted.n_iter_, fitted.n_iter_
    fitted.set_params(n_iter_no_change=2, lr_pos=1e-30, lr_neg=1e-30, momentum=0.0, retain=False)
    fitted.fit(*digits)
    assert fitted.n_iter_ == 2  # no epoch was better
    assert len(fitted.validation_scores_) == epochs + 2
    assert fitted.validation_scores_[best:] == [first.best_validation_score_] * 2
    assert fitted.best_validation_score_ == first.best_validation_score_


def test_held_back_samples_count_by_their_weight(
    digits: Samples, parts: tuple[Samples, Samples]
) -> None:
    weights = np.random.RandomState(0).uniform(0.1, 3, size=400)
    held = train_test_split(np.arange(400), test_size=0.2, stratify=digits[1], random_state=2)[1]
    classifier = PyTorchNNWrapper(**{**STOPPING, "epochs": 3}, class_weight={1: 9.0})
    fitted = classifier.fit(*digits, sample_weight=weights)
    expected = fitted.score(*parts[1], sample_weight=weights[held])
    assert fitted.best_validation_score_ == pytest.approx(expected)
    assert expected != pytest.approx(fitted.score(*parts[1]))


def test_samples_of_weight_0_are_neither_trained_on_nor_held_back(digits: Samples) -> None:
    X, y = digits
    there = np.arange(400) % 4 > 0
    removed = PyTorchNNWrapper(**STOPPING).fit(X[there], y[there])
    weighted = PyTorchNNWrapper(**STOPPING).fit(X, y, sample_weight=there)
    assert same_weights(removed, weighted)
    assert removed.validation_scores_ == weighted.validation_scores_


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"validation_fraction": 0}, "validation_fraction=0: allowed is a number, above 0"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0: allowed is a number, above 0"),
        ({"n_iter_no_change": 0}, "n_iter_no_change=0: allowed is a whole number of at least 1"),
        ({"tol": -1e-4}, "tol=-0.0001: allowed is a number, at least 0"),
        ({"tol": float("nan")}, "tol=nan: allowed is a number, at least 0"),
        ({"early_stopping": 1, "warm_start": "yes"}, "early_stopping=1: .*\nwarm_start=yes: "),
        ({"validation_fraction": 0.01}, "should be greater or equal to the number of classes"),
    ],
)
def test_wrong_settings_are_refused(digits: Samples, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PyTorchNNWrapper(**{"early_stopping": True, **setting}).fit(*digits)


def test_verbose_prints_a_line_per_epoch(
    digits: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    PyTorchNNWrapper(epochs=2).fit(*digits)
    assert capsys.readouterr().out == ""
    PyTorchNNWrapper(epochs=2, verbose=1).fit(*digits)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" |")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    fitted = PyTorchNNWrapper(**STOPPING, verbose=True).fit(*digits)
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == fitted.n_iter_
    assert f"accuracy {fitted.validation_scores_[0]:.2%}" in lines[0]
    assert last.startswith("stopped early: validation_accuracy was best, ")


def test_all_of_it_survives_clone_and_pickle(digits: Samples) -> None:
    settings = {**STOPPING, "class_weight": "balanced", "warm_start": True, "tol": 1e-3}
    fitted = PyTorchNNWrapper(**settings).fit(*digits)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert same_weights(fitted, copy.fit(*digits))
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded.validation_scores_ == fitted.validation_scores_
    assert same_weights(fitted.fit(*digits), loaded.fit(*digits))

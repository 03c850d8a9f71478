"""Metrics equal slow, obvious versions and those of libraries; mistakes of a user's are named."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score
from torch import Tensor

from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.train import evaluate
from mnist_exp.train.functions import FunctionFailed
from mnist_exp.train.metrics import (
    Metric,
    ShiftedAccuracy,
    expected_calibration_error,
    f1,
    is_minimized,
    measure,
    negative_log_likelihood,
    top_k_accuracy,
)


def batch(seed: int, samples: int = 500, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, classes, generator=generator)
    return logits, torch.randint(classes, (samples,), generator=generator)


SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, k=st.integers(1, 12), classes=st.integers(3, 10))
def test_top_k_is_that_of_scikit_learn(seed: int, k: int, classes: int) -> None:
    logits, labels = batch(seed, samples=50, classes=classes)
    found = top_k_accuracy(logits, labels, k=k)
    if k < classes:
        expected = top_k_accuracy_score(labels, logits, k=k, labels=list(range(classes)))
        assert found == pytest.approx(expected)
    else:
        assert found == 1


def test_top_1_of_two_classes_is_the_accuracy() -> None:
    logits, labels = batch(0, classes=2)
    assert top_k_accuracy(logits, labels, k=1) == (logits.argmax(1) == labels).double().mean()


def slow_calibration_error(logits: Tensor, labels: Tensor, bins: int) -> float:
    """Guo et al. 2017, equation 3, a bin at a time."""
    error = 0.0
    probabilities = logits.double().softmax(1)
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (float(row.max()), int(row.argmax()) == int(label))
            for row, label in zip(probabilities, labels, strict=True)
            if low < float(row.max()) <= high
        ]
        if inside:
            confidence = sum(p for p, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


@given(seed=SEEDS, bins=st.integers(1, 40))
def test_calibration_error_is_the_obvious_one(seed: int, bins: int) -> None:
    logits, labels = batch(seed, samples=60)
    found = expected_calibration_error(logits, labels, bins=bins)
    assert found == pytest.approx(slow_calibration_error(logits, labels, bins))


@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_error_is_that_of_torchmetrics(bins: int) -> None:
    reason = "torchmetrics is not installed; the comparison with it"
    torchmetrics: Any = pytest.importorskip("torchmetrics.functional.classification", reason=reason)
    logits, labels = batch(1)
    expected = torchmetrics.multiclass_calibration_error(
        logits, labels, num_classes=10, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(logits, labels, bins=bins) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_calibration_error_of_certainty() -> None:
    logits, labels = 1e4 * torch.eye(4), torch.tensor([0, 1, 2, 0])
    assert expected_calibration_error(logits, labels) == pytest.approx(0.25)


def test_log_likelihood_is_that_of_scikit_learn() -> None:
    logits, labels = batch(2)
    probabilities = logits.double().softmax(1)
    expected = log_loss(labels, probabilities, labels=list(range(10)))
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected)


@given(seed=SEEDS)
def test_f1_is_the_obvious_one(seed: int) -> None:
    logits, labels = batch(seed, samples=20)
    predicted = logits.argmax(1)
    found = f1(logits, labels)
    assert list(found) == [str(k) for k in range(10)]
    for k in range(10):
        both = int(((predicted == k) & (labels == k)).sum())
        either = int((predicted == k).sum()) + int((labels == k).sum())
        expected = 2 * both / either if either else math.nan
        assert found[str(k)] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1_averages_as_scikit_learn(average: str) -> None:
    logits, labels = batch(3)
    expected = f1_score(labels, logits.argmax(1), average=average)
    assert f1(logits, labels, average=average) == pytest.approx(expected)


def test_values_are_plain_numbers_by_name() -> None:
    metrics = {
        "one": lambda logits, labels: torch.tensor(0.5),
        "several": lambda logits, labels: {"a": np.float32(0.25), 3: np.array(1)},
        "no_number": lambda logits, labels: {"nan": math.nan, "inf": torch.tensor(math.inf)},
    }
    values = measure(metrics, *batch(0))
    assert values == {
        "one": 0.5,
        "several.a": 0.25,
        "several.3": 1.0,
        "no_number.nan": None,
        "no_number.inf": None,
    }
    assert {type(value) for value in values.values()} == {float, type(None)}


def test_a_metric_that_changes_its_arguments_harms_no_other() -> None:
    def destroy(logits: Tensor, labels: Tensor) -> float:
        logits.zero_()
        labels.zero_()
        return 0.0

    logits, labels = batch(0)
    expected = negative_log_likelihood(logits, labels)
    assert measure({"a": destroy, "b": negative_log_likelihood}, logits, labels)["b"] == expected


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (None, "NoneType"),
        (True, "bool"),
        ("0.5", "str"),
        (1j, "complex"),
        ([0.5], "list"),
        (torch.zeros(2, 3), r"Tensor \(2, 3\)"),
        (torch.zeros(1), r"Tensor \(1,\)"),
        ({"a": [0.5]}, "list"),
        ({"a": {"b": 0.5}}, "dict"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(found: object, kind: str) -> None:
    def mine(logits: Tensor, labels: Tensor) -> object:
        return found

    with pytest.raises(
        UserError, match=rf"metrics\.x.* \(.*mine\): returns a value of type {kind}"
    ):
        measure({"x": mine}, *batch(0))


def test_two_values_of_one_name_are_refused() -> None:
    metrics = {"f": lambda logits, labels: {"a.b": 1}, "f.a": lambda logits, labels: {"b": 2}}
    with pytest.raises(UserError, match=r"f\.a\.b is the name of another metric's value too"):
        measure(metrics, *batch(0))


def test_an_error_names_the_metric_and_keeps_its_traceback() -> None:
    def mine(logits: Tensor, labels: Tensor, power: int) -> float:
        raise KeyError("lost")

    with pytest.raises(FunctionFailed, match=r"metrics\.x \(.*mine\) failed: KeyError") as error:
        measure({"x": partial(mine, power=2)}, *batch(0))
    assert isinstance(error.value.__cause__, KeyError)


def test_a_metric_says_its_direction() -> None:
    assert is_minimized(expected_calibration_error)
    assert is_minimized(partial(expected_calibration_error, bins=3))
    assert not is_minimized(partial(top_k_accuracy, k=3))

    class Mine:
        minimize = True

    assert is_minimized(Mine())  # type: ignore[arg-type]


def test_an_evaluation_measures_all_images_at_once(mnist: Dataset) -> None:
    images = Images(mnist, device=torch.device("cpu"), mean=0.1307, std=0.3081)
    indices = torch.arange(60_000, 60_250)
    model = MLP(hidden_sizes=[20])
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(logits: Tensor, labels: Tensor) -> float:
        seen.append((logits, labels))
        return 1.0

    metrics = {"keep": keep, "nll": negative_log_likelihood}
    settings: dict[str, Any] = {"batch_size": 100, "precision": "fp32"}
    found = evaluate(model, images, indices, **settings, metrics=metrics)
    ((logits, labels),) = seen
    inputs, _ = images.batch(indices)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert torch.allclose(logits, model.eval()(inputs), atol=1e-5)
    assert torch.equal(labels, mnist.labels[indices])
    assert found.metrics["nll"] == pytest.approx(found.loss, rel=1e-6)
    without = evaluate(model, images, indices, **settings)
    assert without.metrics == {}
    assert (without.loss, without.accuracy) == (found.loss, found.accuracy)
    assert copy.deepcopy(metrics).keys() == metrics.keys()


def shifted_by_hand(image: Tensor, down: int, right: int) -> Tensor:
    """Move an image [H, W] pixel by pixel; what moves in repeats the edge."""
    height, width = image.shape
    moved = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            row, column = min(max(y - down, 0), height - 1), min(max(x - right, 0), width - 1)
            moved[y, x] = image[row, column]
    return moved


@pytest.mark.parametrize("pixels", [1, 2])
def test_shifted_accuracy_is_that_of_the_mean_over_all_moves(pixels: int) -> None:
    model = MLP(hidden_sizes=[5], in_features=30, num_classes=3)
    images = torch.rand(4, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    moves = range(-pixels, pixels + 1)
    with torch.no_grad():
        found = ShiftedAccuracy(pixels).logits(model, images)
        for image, mean in zip(images, found, strict=True):
            moved = [shifted_by_hand(image[0], down, right) for down in moves for right in moves]
            expected = model(torch.stack(moved).unsqueeze(1)).log_softmax(1).mean(0)
            torch.testing.assert_close(mean, expected)


def test_an_evaluation_gives_a_metric_the_logits_of_its_own_making(mnist: Dataset) -> None:
    """And leaves all else as it is."""
    images = Images(mnist, device=torch.device("cpu"), mean=0.1307, std=0.3081)
    indices = torch.arange(60_000, 60_250)
    model = MLP(hidden_sizes=[20], generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {"batch_size": 100, "precision": "fp32"}
    plain = evaluate(model, images, indices, **settings, metrics={"f1": f1})
    metrics: dict[str, Metric] = {"shifted": ShiftedAccuracy(), "f1": f1}
    found = evaluate(model, images, indices, **settings, metrics=metrics)
    assert (found.loss, found.accuracy) == (plain.loss, plain.accuracy)
    assert found.metrics["f1.3"] == plain.metrics["f1.3"]
    inputs, labels = images.batch(indices)
    with torch.no_grad():
        logits = ShiftedAccuracy().logits(model.eval(), inputs)
    assert found.metrics["shifted"] == (logits.argmax(1) == labels).double().mean()
    assert found.metrics["shifted"] != plain.accuracy


def test_only_images_can_be_moved() -> None:
    with pytest.raises(UserError, match=r"inputs of shape \[7, 30\]: only images can be moved"):
        ShiftedAccuracy().logits(MLP(in_features=30), torch.zeros(7, 30))

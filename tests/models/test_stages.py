"""Declared stages count only for the declaring class and are verified against autograd."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.cpu.threads import cpu_threads
from mnist_exp.device import DeviceConstraint
from mnist_exp.models import MLP, CNN20k, CNN21k, Stages
from mnist_exp.models.stages import has_fixed_operations, has_independent_samples, stages
from mnist_exp.train import compute_device
from mnist_exp.train.backprop.autograd import Autograd, AutogradInParts
from mnist_exp.train.backprop.choose import backpropagation, fast_precision, fastest_way
from mnist_exp.train.backprop.cnn_compiled import CompiledConvolutions
from mnist_exp.train.backprop.mlp import LinearLayers
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import COMPILED, using

CPU = torch.device("cpu")
original = Autograd.__call__


@pytest.fixture(params=["torch", *COMPILED[:1]], autouse=True)
def build(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param), cpu_threads(2):
        yield request.param


class Perceptron(nn.Module):
    """A user-defined network that declares its stages."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = nn.Linear(784, 9), nn.Linear(9, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(F.relu(self.hidden(images.flatten(1)))) * self.factor
        return logits

    def stages(self) -> Stages:
        return [], [self.hidden, self.out]


class Liar(Perceptron):
    """Declares stages that omit its factor."""

    factor = 1.05
    stages = Perceptron.stages


class LyingCNN(CNN21k):
    """Clamps its inputs at 0, a step that its stages omit."""

    stages = CNN21k.stages

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.clamp(min=0))


class Noisy(Perceptron):
    """Centres on the batch although it declares independent samples."""

    independent_samples = True

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0))


class Derived(CNN21k):
    """A subclass that declares nothing."""


def batch(count: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 28, 28, generator=generator)
    return images, torch.randint(10, (count,), generator=generator)


def gradients(model: nn.Module, way: Any) -> list[Tensor]:
    way(*batch())
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", [Perceptron, Derived, CNN21k], ids=lambda kind: kind.__name__)
def test_declarations_are_not_inherited(kind: Any, build: str) -> None:
    model = kind() if kind is Perceptron else kind(num_classes=10)
    way, precision = fastest_way(model, 0.1, "fp32"), fast_precision(CPU, kind)
    if kind is Derived:
        assert stages(model) is None
        assert not has_independent_samples(model)
        assert type(way) is Autograd
    else:
        compiled = AutogradInParts if build == "torch" else CompiledConvolutions
        assert type(way) is (LinearLayers if kind is Perceptron else compiled)
    says_so = kind is not Derived and build != "torch"
    assert precision == ("fp32" if says_so else compute_device.fast_precision(CPU))


def test_declarations_depend_on_settings() -> None:
    settings: dict[str, Any] = {"hidden_sizes": [5], "num_classes": 4}
    assert stages(MLP(**settings, activation="relu", dropout=0.0)) is not None
    assert stages(MLP(**settings, activation="tanh", dropout=0.0)) is None
    dropping = MLP(**settings, activation="relu", dropout=0.5)
    assert not has_independent_samples(dropping)


def test_other_parametrizations_than_devices_are_left_to_autograd() -> None:
    model = CNN21k(num_classes=10)
    nn.utils.parametrizations.weight_norm(model.conv2)
    assert isinstance(fastest_way(model, 0.1, "fp32"), Autograd)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", [Perceptron(), CNN21k(num_classes=10)], ids=["MLP", "CNN"])
def test_a_network_with_true_declarations_is_compared_once(
    model: nn.Module, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = copy.deepcopy(model), []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(Autograd, "__call__", counted)
    first = gradients(model, backpropagation(model, 0.1, precision))
    assert len(calls) == 1
    way = backpropagation(model, 0.1, precision)  # as in the next epoch
    assert type(way) is type(fastest_way(model, 0.1, precision))
    assert all(map(torch.equal, gradients(model, way), first)), "comparing changed a bit"
    assert len(calls) == 1


@pytest.mark.parametrize(
    "model", [Liar(), LyingCNN(num_classes=10), Noisy()], ids=lambda model: type(model).__name__
)
def test_a_network_with_false_declarations_is_trained_by_autograd(
    model: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copy.deepcopy(model)
    way = backpropagation(model, 0.1, "fp32")
    if isinstance(fastest_way(model, 0.1, "fp32"), AutogradInParts) and isinstance(model, LyingCNN):
        return  # runs forward itself
    taken = gradients(model, way)
    assert all(map(torch.equal, gradients(model, way), taken))
    truth = gradients(model, Autograd(model, 0.1, "fp32"))
    assert all(map(torch.equal, taken, truth))
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{type(model).__name__} declares stages() or independent_samples" in told
    assert type(backpropagation(model, 0.1, "fp32")) is Autograd


def test_a_batch_without_finite_values_decides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = Liar()
    way = backpropagation(model, 0.1, "fp32")
    images, labels = batch()
    assert way(images * torch.nan, labels)[0].isnan()
    assert not capsys.readouterr().err
    way(images, labels)
    assert "declares stages()" in capsys.readouterr().err


def test_fixed_operations_are_those_of_the_class_without_hooks_and_mapped_weights() -> None:
    networks: list[nn.Module] = [CNN20k(), CNN21k(), MLP(dropout=0.1), Perceptron()]
    assert all(map(has_fixed_operations, networks))
    assert not has_fixed_operations(Derived())
    with_ones_own = MLP()
    with_ones_own.network[1] = Perceptron()  # declares stages() of its own, which is not enough
    assert not has_fixed_operations(with_ones_own)
    networks[0].register_forward_hook(lambda *_: None)
    DeviceConstraint(**device_settings(mapping="differential")).attach(networks[2], seed=0)
    assert list(map(has_fixed_operations, networks)) == [False, True, False, True]

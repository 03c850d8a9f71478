"""The hand-written chain rule equals autograd, and is not used where it would not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.device import DeviceConstraint
from mnist_exp.models import MLP
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import backpropagation, fastest_way
from mnist_exp.train.backprop.mlp import LinearLayers
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import COMPILED, using

Batch = tuple[Tensor, Tensor]


@pytest.fixture(params=["torch", *COMPILED[:1]], scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch's operations, and the compiled kernels if available."""
    with using(request.param):
        yield


def network(*hidden_sizes: int, **changes: Any) -> MLP:
    torch.manual_seed(0)
    plain: dict[str, Any] = {"num_classes": 4, "activation": "relu", "dropout": 0.0}
    return MLP(hidden_sizes=hidden_sizes, **plain | {"in_features": 12} | changes)


def batch(count: int, *shape: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, *shape, generator=generator)
    return inputs, torch.randint(4, (count,), generator=generator)


def gradients(model: nn.Module, data: Batch, way: Any, smoothing: float, precision: str) -> Any:
    """Return loss, logits and the parameters' gradients."""
    loss, logits = way(model, smoothing, precision)(*data)
    return loss, logits, [p.grad for p in model.parameters()]


def check(model: nn.Module, data: Batch, smoothing: float = 0.0) -> None:
    other = copy.deepcopy(model)
    assert isinstance(fastest_way(model, smoothing, "fp32"), LinearLayers)
    torch.testing.assert_close(
        gradients(model, data, backpropagation, smoothing, "fp32"),
        gradients(other, data, Autograd, smoothing, "fp32"),
    )


@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 8), max_size=3),
    st.sampled_from([0.0, 0.1, 0.9]),
)
def test_gradients_are_those_of_autograd(
    count: int, hidden_sizes: list[int], smoothing: float
) -> None:
    check(network(*hidden_sizes), batch(count, 1, 3, 4), smoothing)


def test_gradients_of_large_layers_are_those_of_autograd() -> None:
    check(network(300, 120, in_features=784), batch(40, 784))


@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
@pytest.mark.parametrize("rounding", ["stochastic", "straight_through"])
@pytest.mark.parametrize("bias", ["free", "constrained"])
def test_gradients_of_conductances_are_those_of_autograd(
    mapping: str, rounding: str, bias: str
) -> None:
    model = network(7, 5)
    changes: dict[str, Any] = {"mapping": mapping, "rounding": rounding, "bias": bias, "gain": 1.5}
    DeviceConstraint(**device_settings(quantize=True, **changes)).attach(model, seed=0)
    check(model, batch(9, 12))


def test_bf16_errs_as_little_as_autograd_does() -> None:
    data = batch(64, 784)
    exact = gradients(network(300, in_features=784), data, Autograd, 0.1, "fp32")[2]

    def error(way: Any) -> list[float]:
        rounded = gradients(network(300, in_features=784), data, way, 0.1, "bf16")[2]
        return [float((a - b).norm() / b.norm()) for a, b in zip(rounded, exact, strict=True)]

    for ours, theirs in zip(error(LinearLayers), error(Autograd), strict=True):
        assert 0 < ours < 1.2 * theirs < 0.1


def hooked(model: MLP) -> MLP:
    model.network[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def frozen(model: MLP) -> MLP:
    linear(model, 0).weight.requires_grad_(False)
    return model


def normalised(model: MLP) -> MLP:
    nn.utils.parametrizations.weight_norm(model.network[0])
    return model


def linear(model: MLP, index: int) -> nn.Linear:
    layer = model.network[index]
    assert isinstance(layer, nn.Linear)
    return layer


def tied(model: MLP) -> MLP:
    linear(model, 2).weight = linear(model, 4).weight
    return model


def repeated(model: MLP) -> MLP:
    model.network[4] = model.network[2]
    return model


def watched(model: MLP) -> MLP:
    linear(model, 0).weight.register_hook(lambda gradient: gradient * 2)
    return model


def transposed(model: MLP) -> MLP:
    weight = linear(model, 0).weight
    weight.data = weight.data.T.contiguous().T
    return model


def replaced_forward(model: MLP) -> MLP:
    model.forward = lambda images: model.network(images) * 2  # type: ignore[method-assign]
    return model


def reordered(model: MLP) -> MLP:
    model.network[1], model.network[2] = model.network[2], model.network[1]
    return model


class DoubledLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def of_another_layer(model: MLP) -> MLP:
    model.network[0] = DoubledLinear(12, 5)
    return model


class Doubled(MLP):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * 2


@pytest.mark.parametrize(
    "model",
    [
        network(5, activation="tanh"),
        network(5, dropout=0.5),
        network(5).double(),
        hooked(network(5)),
        frozen(network(5)),
        normalised(network(5)),
        tied(network(5, 5, 5)),
        repeated(network(5, 5, 5)),
        watched(network(5)),
        transposed(network(5)),
        replaced_forward(network(5)),
        reordered(network(5, 5)),
        of_another_layer(network(5)),
        Doubled(hidden_sizes=[5], num_classes=4, activation="relu", dropout=0.0),
        nn.Sequential(nn.Linear(12, 4)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_any_other_network_is_left_to_autograd(model: nn.Module) -> None:
    assert isinstance(fastest_way(model, 0.0, "fp32"), Autograd)


def test_hooks_on_all_modules_are_not_passed_over() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *arguments: None)
    try:
        assert isinstance(fastest_way(network(5), 0.0, "fp32"), Autograd)
    finally:
        handle.remove()
    assert isinstance(fastest_way(network(5), 0.0, "fp32"), LinearLayers)


def test_an_impossible_class_costs_nothing_where_it_is_not_the_right_one() -> None:
    model, (inputs, labels) = network(), batch(6, 12)
    with torch.no_grad():
        linear(model, 0).bias[3] = -torch.inf
    loss, _ = backpropagation(model, 0.0, "fp32")(inputs, labels.clamp(max=2))
    assert loss.isfinite()


def test_loss_follows_the_formula_of_cross_entropy() -> None:
    model, (inputs, labels) = network(5), batch(6, 12)
    for smoothing in (0.0, 0.2):
        loss, logits = backpropagation(model, smoothing, "fp32")(inputs, labels)
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        torch.testing.assert_close(loss, expected)

"""The compiled kernels give autograd's gradients for networks of 3x3 convolutions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.cpu.threads import cpu_threads
from mnist_exp.device import DeviceConstraint
from mnist_exp.models import CNN21k, Stages
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import fastest_way
from mnist_exp.train.backprop.cnn_compiled import CompiledConvolutions
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import COMPILED, using

Batch = tuple[Tensor, Tensor]
CLASSES = 5


@pytest.fixture(params=COMPILED, scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each build that this machine can run, with 3 threads so that parts differ in size."""
    with using(request.param), cpu_threads(3):
        yield


class Network(nn.Module):
    """3x3 convolutions, each pooled or not, and two linear layers."""

    independent_samples = True

    def __init__(self, channels: Sequence[int], pooled: Sequence[bool], hidden: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in pairwise(channels))
        self.pooled = pooled
        self.hidden, self.out = nn.LazyLinear(hidden), nn.Linear(hidden, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for convolution, pooled in zip(self.convolutions, self.pooled, strict=True):
            x = convolution(x)
            x = F.relu(F.max_pool2d(x, 2) if pooled else x)
        logits: Tensor = self.out(F.relu(self.hidden(x.flatten(1))))
        return logits

    def stages(self) -> Stages:
        convolutions: Any = list(zip(self.convolutions, self.pooled, strict=True))
        return convolutions, [self.hidden, self.out]


def batch(count: int, channels: int = 1, height: int = 28, width: int = 28) -> Batch:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, channels, height, width, generator=generator)
    return images, torch.randint(CLASSES, (count,), generator=generator)


def gradients(model: nn.Module, data: Batch, way: Any, smoothing: float) -> list[Tensor]:
    """Return loss, logits and gradients."""
    loss, logits = way(model, smoothing, "fp32")(*data)
    return [loss, logits, *(p.grad for p in model.parameters() if p.grad is not None)]


def check(model: nn.Module, data: Batch, smoothing: float = 0.1, tolerance: float = 1e-5) -> None:
    """Compare with autograd in float64, or in float32 where rounding flips a maximum or ReLU."""
    assert isinstance(fastest_way(model, smoothing, "fp32"), CompiledConvolutions)
    exact, plain = copy.deepcopy(model).double(), copy.deepcopy(model)
    taken = gradients(model, data, CompiledConvolutions, smoothing)
    truth = gradients(exact, (data[0].double(), data[1]), Autograd, smoothing)
    rounded = gradients(plain, data, Autograd, smoothing)
    for ours, *others in zip(taken, truth, rounded, strict=True):
        assert any((ours - other).norm() <= tolerance * other.norm() for other in others)
        assert all(ours.stride() == other.stride() for other in others)


@pytest.mark.slow
@given(
    count=st.sampled_from([1, 15, 16, 17, 50, 100]),
    channels=st.lists(st.integers(1, 17), min_size=1, max_size=3),
    pooled=st.lists(st.booleans(), min_size=3, max_size=3),
    sides=st.tuples(st.integers(24, 31), st.integers(24, 31)),  # large enough to pool three times
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_gradients_are_those_of_autograd(
    count: int,
    channels: list[int],
    pooled: list[bool],
    sides: tuple[int, int],
    smoothing: float,
) -> None:
    model = Network([*channels, 16], pooled[: len(channels)], hidden=7)
    data = batch(count, channels[0], *sides)
    model(data[0])  # sets the lazy layer's input size
    check(model, data, smoothing)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [3, 64, 128])
def test_the_21k_network_in_either_layout(count: int, layout: torch.memory_format) -> None:
    model = CNN21k(num_classes=CLASSES).to(memory_format=layout)
    images, labels = batch(count)
    # among this many sums, one near 0 may have the other sign in float64
    check(model, (images.contiguous(memory_format=layout), labels), tolerance=2e-3)


@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
def test_weights_on_devices(mapping: str) -> None:
    model = CNN21k(num_classes=CLASSES)
    DeviceConstraint(**device_settings(mapping=mapping, gain=1.5)).attach(model, seed=0)
    check(model, batch(20))


def test_a_gradient_goes_to_the_first_of_the_largest_pixels() -> None:
    model = CNN21k(num_classes=CLASSES)
    check(model, (torch.ones(16, 1, 28, 28), batch(16)[1]))  # all pixels of a window are equal


def test_results_are_bitwise_repeatable() -> None:
    model, data = CNN21k(num_classes=CLASSES), batch(50)
    first = [one.clone() for one in gradients(model, data, CompiledConvolutions, 0.1)]
    again = gradients(model, data, CompiledConvolutions, 0.1)
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_layout_that_changes_is_noticed(steps_before: int) -> None:
    model, data = CNN21k(num_classes=CLASSES), batch(40)
    step = CompiledConvolutions(model, 0.1, "fp32")
    for _ in range(steps_before):
        step(*batch(20))
    model.to(memory_format=torch.channels_last)
    loss, logits = step(*data)
    taken = [p.grad for p in model.parameters()]
    truth = gradients(copy.deepcopy(model), data, Autograd, 0.1)
    torch.testing.assert_close([loss, logits, *taken], truth, rtol=1e-3, atol=1e-5)


def test_an_empty_batch_has_no_mean_loss() -> None:
    loss, _ = CompiledConvolutions(CNN21k(num_classes=CLASSES), 0.0, "fp32")(*batch(0))
    assert loss.isnan()


def test_a_label_out_of_range_is_refused() -> None:
    images, labels = batch(40)
    step = CompiledConvolutions(CNN21k(num_classes=CLASSES), 0.0, "fp32")
    for wrong in (-1, CLASSES):
        labels[30] = wrong
        with pytest.raises(IndexError, match="label"):
            step(images, labels)


@pytest.mark.parametrize(
    "data",
    [batch(9, 2), batch(9, 1, 28, 27), batch(9, 1, 9, 9), (batch(9)[0], batch(8)[1])],
    ids=["channels", "width", "too small", "labels"],
)
def test_batches_that_do_not_fit_are_refused_by_torch(data: Batch) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        CompiledConvolutions(CNN21k(num_classes=CLASSES), 0.0, "fp32")(*data)


class Derived(CNN21k):
    """A subclass, which might override the forward pass."""

    independent_samples = True


class Padded(CNN21k):
    """Declares stages although one convolution is padded."""

    independent_samples = True
    stages = CNN21k.stages

    def __init__(self) -> None:
        super().__init__(num_classes=CLASSES)
        self.conv2 = nn.Conv2d(4, 8, kernel_size=3, padding=1)


def with_more(model: CNN21k) -> CNN21k:
    model.unused = nn.Parameter(torch.ones(2))
    return model


def with_gaps(model: CNN21k) -> CNN21k:
    model.conv1.bias = nn.Parameter(torch.randn(8)[::2])
    return model


def frozen(model: CNN21k) -> CNN21k:
    model.conv1.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "model",
    [
        Derived(num_classes=CLASSES),
        Padded(),
        with_more(CNN21k(num_classes=CLASSES)),
        frozen(CNN21k(num_classes=CLASSES)),
        with_gaps(CNN21k(num_classes=CLASSES)),
        CNN21k(num_classes=CLASSES).double(),
    ],
    ids=["derived", "padded", "other parameters", "frozen", "gaps", "float64"],
)
def test_other_networks_are_left_to_autograd(model: nn.Module) -> None:
    assert not isinstance(fastest_way(model, 0.0, "fp32"), CompiledConvolutions)
    assert not isinstance(fastest_way(CNN21k(num_classes=9), 0.0, "bf16"), CompiledConvolutions)

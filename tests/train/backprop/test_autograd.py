"""A batch processed in parts gives the gradients of the whole batch."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp.cpu.threads import cpu_threads
from mnist_exp.device import DeviceConstraint
from mnist_exp.models import CNN20k, CNN21k
from mnist_exp.train.backprop.autograd import SMALLEST_PART, Autograd, AutogradInParts
from mnist_exp.train.backprop.choose import fastest_way
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import using

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module", autouse=True)
def _three_threads() -> Iterator[None]:
    with cpu_threads(3):
        yield


def network() -> CNN21k:
    torch.manual_seed(0)
    return CNN21k(num_classes=10).to(memory_format=torch.channels_last)


def batch(count: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 28, 28, generator=generator)
    return images, torch.randint(10, (count,), generator=generator)


def gradients(
    model: nn.Module, data: Batch, way: type[Autograd], precision: str = "fp32"
) -> dict[str, Any]:
    loss, logits = way(model, 0.1, precision)(*data)
    return {"loss": loss, "logits": logits} | {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.slow
@given(st.integers(1, 5 * SMALLEST_PART))
def test_parts_have_the_gradients_of_the_whole_batch(count: int) -> None:
    model, data = network(), batch(count)
    in_parts = gradients(model, data, AutogradInParts)
    whole = gradients(model, data, Autograd)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-6)


def test_parts_of_a_network_on_devices_have_its_gradients() -> None:
    model, data = network(), batch(3 * SMALLEST_PART)
    settings = device_settings(mapping="differential", quantize=True, rounding="straight_through")
    DeviceConstraint(**settings).attach(model, seed=0)
    in_parts = gradients(model, data, AutogradInParts)
    whole = gradients(model, data, Autograd)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parts_give_the_same_bits_each_time(precision: str) -> None:
    model, data = network(), batch(3 * SMALLEST_PART + 5)
    first = gradients(model, data, AutogradInParts, precision)
    again = gradients(model, data, AutogradInParts, precision)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_parameters_that_are_not_trained_or_not_used_have_no_gradient() -> None:
    model = network()
    model.unused = nn.Parameter(torch.ones(2))
    model.conv1.weight.requires_grad_(False)
    found = gradients(model, batch(3 * SMALLEST_PART), AutogradInParts)
    without = {name for name, value in found.items() if value is None}
    assert without == {"unused", "conv1.weight"}


class Failing(CNN21k):
    def forward(self, images: Tensor) -> Tensor:
        if bool((images > 1e6).any()):
            raise ArithmeticError("too bright")
        return super().forward(images)


@pytest.mark.parametrize("place", [0, -1], ids=["in the first part", "in the last part"])
def test_an_error_in_a_part_is_raised(place: int) -> None:
    images, labels = batch(3 * SMALLEST_PART)
    images[place] = 1e7
    step = AutogradInParts(Failing(num_classes=10), 0.0, "fp32")
    with pytest.raises(ArithmeticError, match="too bright"):
        step(images, labels)
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from mnist_exp.cpu.threads import workers

    parents: ThreadPoolExecutor = workers(1)
    assert parents.submit(int, "3").result() == 3
    child = os.fork()
    if child == 0:  # the parent's threads do not exist here: their work would wait forever
        os._exit(workers(1).submit(int, "3").result(timeout=10))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


class Derived(CNN21k):
    """A subclass that declares nothing."""


def watched(model: CNN21k) -> CNN21k:
    model.conv2.register_forward_hook(lambda *arguments: None)
    return model


def replaced_forward(model: CNN21k) -> CNN21k:
    model.forward = copy.copy(model.forward)  # type: ignore[method-assign]
    return model


def test_a_network_with_independent_samples_runs_in_parts() -> None:
    assert isinstance(fastest_way(network(), 0.0, "bf16"), AutogradInParts)
    with using("torch"):
        assert isinstance(fastest_way(network(), 0.0, "fp32"), AutogradInParts)


@pytest.mark.parametrize(
    "model",
    [
        CNN20k(num_classes=10, dropout=[0.0, 0.0]),  # BatchNorm
        Derived(num_classes=10),
        watched(network()),
        replaced_forward(network()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_any_other_network_runs_whole(model: nn.Module) -> None:
    assert type(fastest_way(model, 0.0, "fp32")) is Autograd

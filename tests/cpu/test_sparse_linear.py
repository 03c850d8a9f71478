"""Products that skip the background equal torch's; torch computes them where it is faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.cpu.kernels.functions import Kernels
from mnist_exp.cpu.sparse_linear import _that_pay, linear, linear_weight_gradient
from mnist_exp.cpu.threads import cpu_threads
from tests.helpers.kernel_builds import COMPILED, using


@pytest.fixture(params=COMPILED, scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param), cpu_threads(3):
        yield


def images(count: int, pixels: int, background: float, density: float = 0.2) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    x = torch.rand(count, pixels, generator=generator)
    x[torch.rand(count, pixels, generator=generator) > density] = background
    x[0, 0] = background
    return x


@given(
    count=st.sampled_from([64, 65, 300, 513]),
    pixels=st.integers(1, 130),
    outputs=st.sampled_from([32, 48, 144, 272]),
    background=st.sampled_from([0.0, -0.4242]),
)
def test_products_are_those_of_torch(
    count: int, pixels: int, outputs: int, background: float
) -> None:
    x = images(count, pixels, background)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(outputs, pixels, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    delta = torch.randn(count, outputs, generator=generator)
    exact = F.linear(x.double(), weight.double(), bias.double())
    assert (linear(x, weight, bias) - exact).norm() <= 1e-6 * exact.norm()
    exact = delta.double().T @ x.double()
    assert (linear_weight_gradient(delta, x) - exact).norm() <= 1e-6 * exact.norm()


def test_where_the_kernels_are_used() -> None:
    assert isinstance(_that_pay(images(100, 784, -0.4), 512), Kernels)
    for x, outputs in (
        (images(100, 784, 0.0, density=0.6), 512),
        (images(10, 784, 0.0), 512),
        (images(100, 784, 0.0), 10),
        (images(100, 784, 0.0).double(), 512),
        (images(100, 784, 0.0).T, 512),
    ):
        assert _that_pay(x, outputs) is None


def test_a_gradient_can_follow() -> None:
    x, weight = images(100, 784, 0.0), torch.ones(32, 784, requires_grad=True)
    linear(x, weight, torch.zeros(32)).sum().backward()
    assert weight.grad is not None


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = images(64, 10, 0.0)
    with pytest.raises(RuntimeError):
        linear(x, torch.ones(32, 1000), torch.zeros(32))
    with pytest.raises(RuntimeError):
        linear(x, torch.ones(32, 10), torch.zeros(31))
    with pytest.raises(RuntimeError):
        linear_weight_gradient(torch.ones(32, 32), x)

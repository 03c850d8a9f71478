"""AsymmetricSGD: its formula, its agreement with torch's SGD, schedulers and refusals."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mnist_exp.errors import UserError
from mnist_exp.optim import AsymmetricSGD, asymmetric_update

rates = st.floats(1e-4, 1.0)
numbers = st.floats(-10, 10, width=32)


def two_parameters(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((7, 5), (3,))]


def take_steps(optimizer: Any, parameters: list[Tensor], count: int = 5) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), rates, rates)
def test_update_is_the_scalar_formula(
    pairs: list[tuple[float, float]], lr_pos: float, lr_neg: float
) -> None:
    expected = [w - (lr_neg if g >= 0 else lr_pos) * g for w, g in pairs]
    weights, gradients = (torch.tensor(column) for column in zip(*pairs, strict=True))
    torch.testing.assert_close(
        asymmetric_update(weights, gradients, lr_pos, lr_neg), torch.tensor(expected)
    )
    parameter = weights.clone().requires_grad_()
    parameter.grad = gradients.clone()
    AsymmetricSGD([parameter], lr_pos=lr_pos, lr_neg=lr_neg, momentum=0.0).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor(expected))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("foreach", [True, False])
def test_equal_rates_are_sgd_bit_for_bit(momentum: float, foreach: bool) -> None:
    ours, theirs = two_parameters(), two_parameters()
    take_steps(AsymmetricSGD(ours, lr_pos=0.1, lr_neg=0.1, momentum=momentum), ours)
    take_steps(torch.optim.SGD(theirs, lr=0.1, momentum=momentum, foreach=foreach), theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_weights_in_another_memory_layout_than_their_gradients_move_right() -> None:
    weight = torch.randn(3, 2, 4, 5).to(memory_format=torch.channels_last)
    gradient = torch.randn(3, 2, 4, 5)
    parameter = weight.clone().requires_grad_()
    parameter.grad = gradient
    AsymmetricSGD([parameter], lr_pos=0.2, lr_neg=0.1, momentum=0.9).step()
    torch.testing.assert_close(
        parameter.detach(), asymmetric_update(weight, gradient, lr_pos=0.2, lr_neg=0.1)
    )


def test_schedulers_move_both_rates_in_proportion() -> None:
    parameter = torch.zeros(2).requires_grad_()
    optimizer = AsymmetricSGD([parameter], lr_pos=0.2, lr_neg=0.1, momentum=0.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step()  # without a gradient nothing moves
    scheduler.step()
    parameter.grad = torch.tensor([-1.0, 1.0])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.1, -0.05]))


def test_state_dict_restores_momentum_and_proportion() -> None:
    whole, first, second = two_parameters(), two_parameters(), two_parameters(seed=9)
    rates = {"lr_pos": 0.2, "lr_neg": 0.1, "momentum": 0.9}
    optimizer = AsymmetricSGD(whole, **rates)
    take_steps(optimizer, whole)
    take_steps(optimizer, whole)
    earlier = AsymmetricSGD(first, **rates)
    take_steps(earlier, first)
    later = AsymmetricSGD(second, lr_pos=0.5, lr_neg=0.5, momentum=0.0)
    later.load_state_dict(earlier.state_dict())
    for a, b in zip(second, first, strict=True):
        a.data.copy_(b)
    take_steps(later, second)
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr_pos", 0.0),
        ("lr_pos", -0.1),
        ("lr_neg", -1.0),
        ("lr_neg", float("nan")),
        ("momentum", 1.0),
    ],
)
def test_refuses_values_out_of_range(name: str, value: float) -> None:
    arguments = {"lr_pos": 0.1, "lr_neg": 0.1, "momentum": 0.0} | {name: value}
    with pytest.raises(UserError, match=rf"optimizer\.{name}={value}"):
        AsymmetricSGD([torch.zeros(1, requires_grad=True)], **arguments)


def test_hooks_and_the_profiler_see_the_steps() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = AsymmetricSGD([weight], lr_pos=0.1, lr_neg=0.1)
    seen: list[str] = []
    handle = optimizer.register_step_post_hook(lambda *_: seen.append("own"))
    everywhere = register_optimizer_step_pre_hook(lambda *_: seen.append("global"))
    optimizer.step()
    handle.remove()
    everywhere.remove()
    optimizer.step()
    assert seen == ["global", "own"]
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert any("AsymmetricSGD.step" in event.key for event in profile.key_averages())

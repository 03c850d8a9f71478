"""Updates written sample by sample: equal to the slow loop, and only where samples have a share."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.device import ConstantStep, DeviceConstraint, Effect, LinearStep, TikiTaka
from mnist_exp.device.sample_updates import in_turns
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import fastest_way
from tests.helpers.device_nets import first_layer, small_net
from tests.helpers.device_settings import device_settings

FINE: dict[str, Any] = {"pulse_rounding": "nearest", "levels": 20001}  # rounds next to nothing
RATES = {"lr_pos": 0.3, "lr_neg": 0.7}
CURVE = {"nonlinearity_ltp": 2.0, "nonlinearity_ltd": -3.0}
LINEAR = LinearStep(gamma_up=0.5, gamma_down=0.2)
UNEQUAL = ConstantStep(up_down=-0.5)  # pulses up are half as large
SPREAD = {"rate_variation": 0.3, "bound_variation": 0.05}


class Early(Effect):
    """Acts on the update of a batch."""

    place = "before_update"

    def __call__(self, w: Tensor, before: Tensor) -> None:
        """Change nothing."""


def convolutions() -> nn.Sequential:
    """Return a network whose second layer has groups and whose third gets several positions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 12)),
        nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
        nn.Conv1d(4, 4, 3, groups=2), nn.ReLU(),
        nn.Linear(8, 2), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def batches(count: int, size: int = 6) -> list[tuple[Tensor, Tensor]]:
    """Return random inputs, some of them 0, and labels."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 12, generator=generator).relu(),
            torch.randint(3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def trained(model: nn.Module, steps: int, **settings: Any) -> list[Tensor]:
    """Train with single samples' updates; return the conductances."""
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **settings))
    constraint.attach(model, seed=0)
    optimizer = AsymmetricSGD(model.parameters(), **RATES)
    constraint.follow(optimizer)
    for inputs, labels in batches(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        constraint.step()
    return [p.detach().clone() for p in model.parameters()]


def trained_slowly(model: nn.Module, steps: int, **settings: Any) -> list[Tensor]:
    """Train with a whole step of optimizer and devices for each sample's share of the gradient.

    The weights on devices move from step to step, the others only once a batch.
    """
    constraint = DeviceConstraint(**device_settings(**settings))
    constraint.attach(model, seed=0)
    optimizer = AsymmetricSGD(model.parameters(), **RATES)
    parameters = list(model.parameters())
    on_devices = set(constraint._parameters)
    for inputs, labels in batches(steps):
        losses = F.cross_entropy(model(inputs), labels, reduction="none") / len(labels)
        total = torch.autograd.grad(losses.sum(), parameters, retain_graph=True)
        of_samples = [torch.autograd.grad(one, parameters, retain_graph=True) for one in losses]
        for sample, gradients in enumerate(of_samples):
            for p, of_batch, own in zip(parameters, total, gradients, strict=True):
                free = of_batch if sample == 0 else None
                p.grad = own if p in on_devices else free
            optimizer.step()
            constraint.step()
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize(
    "settings",
    [
        FINE,
        {**FINE, "mapping": "differential", "gain": 2.0, "bias": "constrained"},
        {**FINE, **CURVE, **SPREAD, "mapping": "reference", "levels": 2001},
        {**FINE, "curve": LINEAR, "bound_variation": 0.05, "levels": 2001},
        {"pulse_rounding": "nearest", "levels": 101, "W_min": -0.3, "W_max": 0.3},
    ],
)
def test_a_step_equals_a_step_for_every_sample(settings: dict[str, Any]) -> None:
    """Each sample's share is rounded, answered and cut off by itself, in order."""
    found, expected = (train(small_net(), 1, **settings) for train in (trained, trained_slowly))
    differ = torch.cat(
        [(a - b).abs().flatten() > 1e-5 for a, b in zip(found, expected, strict=True)]
    )
    assert differ.float().mean() < 0.02  # where the slow loop's w - before rounds otherwise


def test_steps_follow_each_other() -> None:
    found, expected = (train(small_net(), 3, **FINE) for train in (trained, trained_slowly))
    for p, other in zip(found, expected, strict=True):
        torch.testing.assert_close(p, other, atol=1e-3, rtol=0)


def test_convolutions_and_batch_norm_have_samples_shares_too() -> None:
    """They add up to the batch's gradient; next to no rounding leaves equal rates' plain step."""
    model, plain = convolutions(), convolutions()
    constraint = DeviceConstraint(
        **device_settings(apply_to="sample", mapping="differential", **FINE | {"levels": 10**6})
    )
    constraint.attach(model, seed=0)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.3) for net in (model, plain)]
    constraint.follow(optimizers[0])
    for inputs, labels in batches(1):
        for net, optimizer in zip((model, plain), optimizers, strict=True):
            optimizer.zero_grad()
            # a pair has twice the gradient
            (F.cross_entropy(net(inputs), labels) / (2 if net is model else 1)).backward()
            optimizer.step()
        constraint.step()
    for layer, expected in zip(model, plain, strict=True):
        if isinstance(layer, nn.Conv1d | nn.Linear):
            torch.testing.assert_close(layer.weight, expected.weight, atol=1e-4, rtol=1e-3)


def test_opposite_gradients_cancel_in_a_batch_alone() -> None:
    """Two samples that ask for as much up as down leave an asymmetric device lower."""

    def moved(apply_to: str) -> float:
        layer = nn.Linear(1, 1, bias=False)
        layer.weight.data.zero_()
        constraint = DeviceConstraint(
            **device_settings(
                apply_to=apply_to, levels=201, pulse_rounding="nearest", curve=UNEQUAL
            )
        )
        constraint.attach(layer, seed=0)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        constraint.follow(optimizer)
        layer(torch.tensor([[0.05], [-0.05]])).sum().backward()
        optimizer.step()
        constraint.step()
        return layer.weight.item()

    assert moved("batch") == 0
    # five pulses of 0.01 down, and five up of half the size
    assert moved("sample") == pytest.approx(-0.025, abs=1e-6)


def test_stochastic_rounding_keeps_the_mean_and_draws_for_every_sample() -> None:
    """Of n samples asking for p pulses each, n p are given, with the variance n p (1 - p)."""
    layer = nn.Linear(400, 1, bias=False)
    layer.weight.data.zero_()
    settings = device_settings(apply_to="sample", pulse_rounding="stochastic", levels=201)
    constraint = DeviceConstraint(**settings)
    constraint.attach(layer, seed=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    constraint.follow(optimizer)
    layer(torch.full((50, 400), -0.002)).sum().backward()  # 0.2 pulses up, 50 times
    optimizer.step()
    constraint.step()
    pulses = layer.weight.detach() / 0.01
    assert abs(pulses.mean().item() - 10) < 0.6  # 4 standard errors
    assert abs(pulses.var().item() - 8) < 2.4


def test_turns_keep_each_device_s_order() -> None:
    generator = torch.Generator().manual_seed(0)
    devices = torch.randint(9, (60,), generator=generator)
    pulses = torch.arange(60.0)
    found: dict[int, list[float]] = {}
    for some, of_turn in in_turns(devices, pulses):
        assert len(set(some.tolist())) == len(some)
        for device, pulse in zip(some.tolist(), of_turn.tolist(), strict=True):
            found.setdefault(device, []).append(pulse)
    for device, order in found.items():
        assert order == pulses[devices == device].tolist()


def test_a_batch_that_was_skipped_writes_nothing() -> None:
    model = small_net()
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(model, seed=0)
    constraint.follow(torch.optim.SGD(model.parameters(), lr=0.3))
    before = [p.detach().clone() for p in model.parameters()]
    (inputs, labels), *_ = batches(1)
    F.cross_entropy(model(inputs), labels).backward()
    constraint.step()  # the optimizer made no step
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torch.optim.Adam, "the update that Adam makes of a batch is not a sum"),
        (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), "SGD with momentum=0.9"),
        (lambda ps: torch.optim.SGD(ps, lr=0.1, weight_decay=1e-4), "weight_decay=0.0001"),
        (lambda ps: AsymmetricSGD(ps, **RATES, momentum=0.5), "AsymmetricSGD with momentum=0.5"),
    ],
)
def test_optimizers_without_updates_of_samples_are_refused(make: Any, message: str) -> None:
    model = small_net()
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(model, seed=0)
    with pytest.raises(UserError, match=message):
        constraint.follow(make(model.parameters()))


def test_a_step_without_an_optimizer_to_follow_is_refused() -> None:
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(small_net(), seed=0)
    with pytest.raises(UserError, match=r"call constraint.follow\(optimizer\)"):
        constraint.step()


def test_gradients_that_the_samples_do_not_explain_are_refused() -> None:
    """Such as clipped ones."""
    model = small_net()
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(model, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    constraint.follow(optimizer)
    (inputs, labels), *_ = batches(1)
    F.cross_entropy(model(inputs), labels).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    with pytest.raises(UserError, match="do not add up to the batch's"):
        constraint.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "pulse_rounding=none is none of those"),
        ({"pulse_rounding": "accumulate"}, "pulse_rounding=accumulate is none of those"),
        ({**FINE, "update": TikiTaka()}, "update=TikiTaka works on a batch's update"),
        ({**FINE, "effects": [Early()]}, r"Early \(constraint.effects\) changes a batch's update"),
    ],
)
def test_settings_that_need_a_batch_s_update_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        DeviceConstraint(**device_settings(apply_to="sample", **settings))


def test_copies_of_the_network_keep_nothing_and_can_be_pickled() -> None:
    model = small_net()
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(model, seed=0)
    model(torch.ones(2, 12)).sum().backward()
    twin = copy.deepcopy(model)
    twin(torch.ones(2, 12)).sum().backward()
    constraint.follow(torch.optim.SGD(model.parameters(), lr=0.0))
    assert constraint._samples is not None
    assert [len(calls.calls) for calls in constraint._samples.layers] == [1, 1]
    assert len(pickle.dumps(twin)) < 20_000


def test_networks_with_fast_ways_take_autograd_s() -> None:
    """Written-out backpropagation calls no layer, from which a sample's share is taken."""
    model = MLP(hidden_sizes=[5], num_classes=3, activation="relu", dropout=0.0, in_features=12)
    assert type(fastest_way(model, 0.0, "fp32")) is not Autograd
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **FINE))
    constraint.attach(model, seed=0)
    assert type(fastest_way(model, 0.0, "fp32")) is Autograd


def test_a_frozen_weight_is_never_written() -> None:
    net = small_net()
    last = net[3]
    assert isinstance(last, nn.Linear)
    last.weight.requires_grad_(False)
    before = last.weight.clone(), first_layer(net).weight.clone()
    trained(net, 2, W_min=-1.0, W_max=1.0, **FINE)
    assert last.weight.equal(before[0])
    assert not first_layer(net).weight.equal(before[1])

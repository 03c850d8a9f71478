"""Device variation: seeds, stuck devices, bounds and rates per device, noise per write."""

import math

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from mnist_exp.device import DeviceConstraint
from tests.helpers.device_nets import (
    FLAWS,
    SEED_LIMITS,
    STEP,
    attached,
    first_layer,
    small_net,
    train_steps,
)
from tests.helpers.device_settings import device_settings


def test_seed_decides_the_devices() -> None:
    def after_training(seed: int) -> Tensor:
        model = small_net()
        constraint = DeviceConstraint(**device_settings(**FLAWS))
        constraint.attach(model, seed=seed)
        train_steps(model, SGD(model.parameters(), lr=0.1), constraint, 5)
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    assert torch.equal(after_training(1), after_training(1))
    assert not torch.equal(after_training(1), after_training(2))


def test_stuck_devices_never_move() -> None:
    model = small_net()
    constraint = attached(
        model, mapping="differential", **SEED_LIMITS, stuck_at_min=0.2, stuck_at_max=0.3
    )
    train_steps(model, SGD(model.parameters(), lr=0.5), constraint, 30)
    pairs = [p for n, p in model.named_parameters() if "original" in n]
    flat = torch.cat([p.detach().reshape(-1) for p in pairs])
    assert (flat == 0.1).sum() >= round(0.2 * len(flat))
    assert (flat == 0.51).sum() >= round(0.3 * len(flat))


def test_varied_bounds_hold_for_each_device_and_rates_scale_each_update() -> None:
    model = small_net()
    constraint = attached(
        model, W_min=-1.0, W_max=1.0, bound_variation=0.1, rate_variation=0.5,
    )  # fmt: skip
    start = first_layer(model).weight.detach().clone()
    first_layer(model).weight.data.add_(0.01)
    constraint.step()
    moved = (first_layer(model).weight - start) / 0.01
    assert moved.min() >= -1e-4
    assert 0.3 < moved.std().item() < 0.7
    first_layer(model).weight.data.add_(100.0)
    constraint.step()
    assert first_layer(model).weight.std().item() == pytest.approx(
        0.2, rel=0.4
    )  # 0.1 of the range of 2


def test_write_noise_spares_devices_without_a_pulse() -> None:
    model = small_net()
    constraint = attached(
        model, **SEED_LIMITS, clip=False, write_noise=0.05, pulse_rounding="nearest"
    )
    start = first_layer(model).weight.detach().clone()
    first_layer(model).weight.data[0].add_(3 * STEP)
    constraint.step()
    change = first_layer(model).weight.detach() - start
    assert torch.equal(change[1:], torch.zeros_like(change[1:]))
    noise = change[0] / STEP - 3
    assert noise.std().item() == pytest.approx(0.05 * 99 * math.sqrt(3), rel=0.7)

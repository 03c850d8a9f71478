"""Small networks whose weights are held by devices, for the tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mnist_exp.device import DeviceConstraint
from tests.helpers.device_settings import device_settings

SEED_LIMITS: dict[str, Any] = {"W_min": 0.1, "W_max": 0.51, "levels": 100}
STEP = 0.41 / 99
FLAWS: dict[str, Any] = {
    "mapping": "differential", **SEED_LIMITS, "quantize": True, "rounding": "accumulate",
    "retain": True, "retention": 1e-3, "pulse_rounding": "stochastic", "nonlinearity_ltp": 1.5,
    "nonlinearity_ltd": -0.5, "write_noise": 0.02, "rate_variation": 0.3, "bound_variation": 0.05,
    "stuck_at_min": 0.05, "stuck_at_max": 0.05, "diagnose_every": 4,
}  # fmt: skip


def small_net(seed: int = 0) -> nn.Sequential:
    """Return a 12-7-3 network."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3))


def first_layer(model: nn.Sequential) -> nn.Linear:
    """Return the first linear layer."""
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    return layer


def attached(model: nn.Module, **changes: Any) -> DeviceConstraint:
    """Attach flawless devices, with some settings changed, to a network."""
    constraint = DeviceConstraint(**device_settings(**changes))
    constraint.attach(model, seed=0)
    return constraint


def train_steps(
    model: nn.Module, optimizer: Any, constraint: DeviceConstraint, count: int, seed: int = 0
) -> None:
    """Train on random inputs."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        inputs = torch.randn(8, 12, generator=generator)
        labels = torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        constraint.step()

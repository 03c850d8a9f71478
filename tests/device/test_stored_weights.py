"""Weights read back from saved conductances are those that the network computed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mnist_exp.device import DeviceConstraint
from mnist_exp.device.stored_weights import effective_state, is_conductance
from mnist_exp.models import MLP, CNN20k
from mnist_exp.models.effective_copy import effective_copy

GRID = {"W_min": 0.1, "W_max": 0.51, "quantize": True, "levels": 16}
CASES: list[dict[str, Any]] = [
    {},
    {**GRID, "mapping": "direct"},
    {**GRID, "mapping": "direct", "rounding": "straight_through"},
    {**GRID, "mapping": "differential", "gain": 2.5},
    {**GRID, "mapping": "reference", "gain": 0.7, "rounding": "straight_through"},
    {**GRID, "mapping": "differential", "bias": "constrained", "rounding": "accumulate"},
    {**GRID, "mapping": "differential", "bound_variation": 0.1, "stuck_at_min": 0.2},
]


def networks() -> list[nn.Module]:
    return [MLP(hidden_sizes=[6], num_classes=3), CNN20k(num_classes=3)]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_weights_are_bitwise_those_of_the_network(settings: dict[str, Any]) -> None:
    for model in networks():
        DeviceConstraint(**settings).attach(model, seed=1)
        found = effective_state(model.state_dict(), {"_target_": "any", "unknown": 1, **settings})
        expected = effective_copy(model).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_half_a_pair_stays_out() -> None:
    model = MLP(hidden_sizes=[], num_classes=2)
    settings: dict[str, Any] = {"mapping": "differential"}
    DeviceConstraint(**settings).attach(model, seed=1)
    state = model.state_dict()
    assert sorted(filter(is_conductance, state)) == [
        f"network.0.parametrizations.weight.original{number}" for number in (0, 1)
    ]
    del state["network.0.parametrizations.weight.original1"]
    assert list(effective_state(state, settings)) == ["network.0.bias"]

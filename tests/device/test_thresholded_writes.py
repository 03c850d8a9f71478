"""Thresholded and probabilistic writes against a slow loop over devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mnist_exp.device import DeviceConstraint, ThresholdedWrites
from mnist_exp.errors import UserError
from tests.helpers.device_settings import device_settings

COUNT, D = 400, 0.02
PULSED: dict[str, Any] = {"levels": 101, "pulse_rounding": "nearest"}  # -1 to 1


def weights_after(scheme: ThresholdedWrites, updates: torch.Tensor) -> torch.Tensor:
    """Return the weights, from 0, after updates [steps, devices] in units of D."""
    layer = nn.Linear(COUNT, 1, bias=False)
    nn.init.zeros_(layer.weight)
    constraint = DeviceConstraint(**device_settings(update=scheme, **PULSED))
    constraint.attach(layer, seed=0)
    for update in updates:
        layer.weight.data.add_(D * update)
        constraint.step()
    return layer.weight.detach()[0] / D


@pytest.mark.parametrize("keep", [True, False])
def test_a_step_is_the_loop_over_devices(keep: bool) -> None:
    scheme = ThresholdedWrites(threshold=2.3, keep=keep, scale=1.5)
    updates = 1.5 * torch.randn(6, COUNT, generator=torch.Generator().manual_seed(0))
    expected = []
    for asked in updates.T.tolist():
        w = kept = 0.0
        for update in asked:
            p = update + kept
            kept = p if keep else 0.0
            if abs(p) >= 2.3:
                w, kept = w + round(1.5 * p), 0.0
        expected.append(w)
    found = weights_after(scheme, updates)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)
    assert 0 < (found == 0).sum() < COUNT


def test_writes_by_chance_lose_nothing_that_is_kept() -> None:
    updates = torch.full((1, COUNT), 3.0)
    once = weights_after(ThresholdedWrites(threshold=1.0, probability=0.25), updates)
    assert 60 < (once > 0).sum() < 140
    late = weights_after(
        ThresholdedWrites(probability=0.5), torch.cat([updates] + 30 * [0 * updates])
    )
    torch.testing.assert_close(late, torch.full((COUNT,), 3.0), atol=1e-3, rtol=0)


def test_the_scale_makes_up_for_what_chance_loses() -> None:
    scheme = ThresholdedWrites(probability=0.25, keep=False, scale=4.0)
    found = weights_after(scheme, torch.full((1, COUNT), 2.0))
    assert set(found.round().tolist()) == {0.0, 8.0}
    assert found.mean().item() == pytest.approx(2.0, abs=0.6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": -1.0}, r"constraint.update.threshold=-1.0: allowed is a number, at least 0"),
        ({"probability": 0.0}, r"constraint.update.probability=0.0: allowed is a number, above 0"),
        ({"scale": 0.0}, r"constraint.update.scale=0.0"),
        ({"keep": 1}, r"constraint.update.keep=1: allowed is true or false"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ThresholdedWrites(**arguments)

"""The table of steps against ``np.interp``, one device and one pulse at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnist_exp.device import DeviceConstraint, DeviceSettings, TableStep
from mnist_exp.device.pulse_response import StepResponse
from mnist_exp.device.random_source import RandomSource
from mnist_exp.errors import UserError
from tests.helpers.device_settings import device_settings

TABLE: dict[str, Any] = {
    "conductance": [0.1, 0.2, 0.5, 0.9],
    "up": [2.0, 1.5, 0.0, 0.5],
    "down": [0.3, 1.0, 1.0, 2.5],
}
LOW, HIGH, LEVELS = 0.05, 1.05, 21
D = 0.05


def test_pulses_are_the_loop_over_devices_and_pulses() -> None:
    """Starts lie on the entries, between them and beyond; the bounds cut pulses off."""
    starts = [LOW, 0.1, 0.2, 0.35, 0.5, 0.9, HIGH, *np.linspace(LOW, HIGH, 30)]
    counts = ([-5, 3, 0, 1, -1] * len(starts))[: len(starts)]
    model = TableStep(**TABLE)
    settings = DeviceSettings(
        curve=model, W_min=LOW, W_max=HIGH, levels=LEVELS, pulse_rounding="nearest"
    )
    random = RandomSource(0, torch.device("cpu"))
    response = StepResponse(model, {}, settings, LOW, HIGH, random)
    w = torch.tensor(starts, dtype=torch.float32)
    response.respond(w, torch.tensor(counts, dtype=torch.float32))
    expected = []
    for start, count in zip(starts, counts, strict=True):
        value, sizes = start, TABLE["up"] if count > 0 else TABLE["down"]
        for _ in range(abs(count)):
            step = D * np.interp(value, TABLE["conductance"], sizes)
            value = min(max(value + np.sign(count) * step, LOW), HIGH)
        expected.append(value)
    np.testing.assert_allclose(w.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conductance": [0.1]}, r"curve.conductance=.*: allowed is a list of at least 2 rising"),
        ({"conductance": [0.1, 0.5, 0.5, 0.9]}, "curve.conductance=.*rising"),
        ({"conductance": [0.1, 0.2, 0.5, float("nan")]}, "curve.conductance="),
        ({"up": [2.0, 1.5, -0.1, 0.5]}, "curve.up=.*: allowed is a list of numbers of at least 0"),
        ({"down": 1.0}, "curve.down=1.0"),
        ({"down": [1.0, 2.0]}, r"curve.down: has 2 entries, and conductance has 4"),
    ],
)
def test_refuses_what_is_no_table(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TableStep(**TABLE | changes)


def test_rounding_makes_no_step_negative() -> None:
    """Lines that end at 0 exactly, at ends that float32 rounds."""
    for end in np.random.default_rng(0).uniform(0.5, 2.0, 200):
        table = TableStep(conductance=[0.1, end], up=[end, 0.0], down=[1.7, 0.0])
        w = torch.tensor([0.1, end], dtype=torch.float32)
        assert table.shape(w, True, SimpleNamespace()).min() >= 0
        assert table.shape(w, False, SimpleNamespace()).min() >= 0


def test_refuses_a_device_that_never_moves() -> None:
    table = TableStep(**TABLE | {"down": [0.0] * 4})
    with pytest.raises(UserError, match="a pulse down has the size 0 at every conductance"):
        DeviceConstraint(**device_settings(curve=table, pulse_rounding="nearest"))

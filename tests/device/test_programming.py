"""Whole pulses: which an update becomes, and how devices respond to them."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnist_exp.device import DeviceSettings
from mnist_exp.device.pulse_response import CurveResponse
from mnist_exp.device.pulses import accumulate_pulses, curve_parameter, program
from mnist_exp.device.random_source import RandomSource
from tests.helpers.device_nets import attached

updates = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=60)


@given(updates)
def test_accumulator_is_the_scalar_loop(asked: list[float]) -> None:
    """Whole pulses leave the accumulator as soon as it holds them; pulses and rest are the sum."""
    remainder, total, kept = torch.zeros(1), 0, 0.0
    for update in asked:
        pulses = int(accumulate_pulses(torch.tensor([update]), remainder).item())
        kept += update
        expected = int(kept)  # toward zero
        near_whole = abs(kept - round(kept)) < 1e-4  # float32 may be on the other side
        assert pulses == expected or near_whole
        kept -= pulses
        total += pulses
        assert abs(remainder.item()) < 1
    assert abs(total + remainder.item() - sum(asked)) < 1e-4


def test_updates_far_below_a_pulse_move_a_device_that_accumulates_them() -> None:
    """A hundred updates of 0.0347 pulses are three pulses and a rest; nothing is lost or noted."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.3)
    constraint = attached(
        layer, W_min=0.0, W_max=1.0, levels=101, pulse_rounding="accumulate", diagnose_every=1
    )
    for _ in range(100):
        layer.weight.data.add_(0.000347)
        constraint.step()
    assert abs(layer.weight.item() - 0.33) < 1e-5
    assert constraint.diagnostics()["share_rounded_away"] == 0
    assert constraint.warnings(0.1) == []
    (rest,) = constraint.state_dict()["devices"]["pulse_remainder"].tolist()
    assert abs(rest - 0.47) < 1e-3


def test_pulses_at_a_bound_are_spent() -> None:
    """A device pushed against its bound turns round with the first pulse back."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.995)
    constraint = attached(layer, W_min=0.0, W_max=1.0, levels=101, pulse_rounding="accumulate")
    for update in (0.0525, 0.0525, -0.0175):  # 5.25, 5.25 and -1.75 pulses
        layer.weight.data.add_(update)
        constraint.step()
    assert abs(layer.weight.item() - 0.99) < 1e-6


def test_devices_without_a_pulse_need_no_computation() -> None:
    """The few written ones alone, with bounds of their own, equal all of them."""
    generator = torch.Generator().manual_seed(0)
    settings = DeviceSettings(
        pulse_rounding="nearest", levels=50, nonlinearity_ltp=2.0, nonlinearity_ltd=-3.0
    )
    low = -1 + 0.1 * torch.rand(1000, generator=generator)
    high = 1 + 0.1 * torch.rand(1000, generator=generator)
    w = low + (high - low) * torch.rand(1000, generator=generator)
    pulses = torch.randint(-2, 3, (1000,), generator=generator).float()
    pulses[torch.rand(1000, generator=generator) < 0.95] = 0
    curves = (curve_parameter(2.0), curve_parameter(-3.0))
    expected = program(w, pulses, *curves, low, high, 49)
    response = CurveResponse(settings, low, high, RandomSource(0, torch.device("cpu")))
    response.respond(w, pulses)
    torch.testing.assert_close(w, expected)

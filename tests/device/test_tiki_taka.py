"""Tiki-Taka against a slow loop over devices; its start, its columns, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.device import (
    ConstantStep,
    DeviceConstraint,
    DeviceSettings,
    ExpStep,
    LinearStep,
    StepModel,
    TikiTaka,
    TikiTakaV2,
)
from mnist_exp.device.effects import draw_devices
from mnist_exp.device.pulse_response import build_response
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.symmetry_point import symmetry_points
from mnist_exp.device.synapses import find_synapses, input_lines
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import build_constraint
from tests.conftest import Compose
from tests.helpers.device_nets import FLAWS
from tests.helpers.device_settings import device_settings

D = 0.02
PULSED: dict[str, Any] = {"levels": 101, "pulse_rounding": "nearest"}  # -1 to 1
ROWS, COLUMNS = 3, 5


def on_devices(layer: nn.Module, **changes: Any) -> DeviceConstraint:
    constraint = DeviceConstraint(**device_settings(**changes))
    constraint.attach(layer, seed=0)
    return constraint


def pulsed(w: float, asked: float) -> float:
    """Return one conductance after the pulses of a `LinearStep` with gamma 0.5."""
    count = round(asked / D)
    for _ in range(abs(count)):
        w += D * (1 - 0.5 * w) if count > 0 else -D * (1 + 0.5 * w)
        w = min(max(w, -1.0), 1.0)
    return w


def slowly(scheme: TikiTaka, w: list[list[float]], updates: list[list[list[float]]]) -> Tensor:
    """Return the weights after some updates, one device after the other."""
    C, A, H = ([row[:] for row in w], *([[0.0] * COLUMNS for _ in w] for _ in range(2)))
    sign, column = [1.0] * COLUMNS, 0
    for step, update in enumerate(updates, start=1):
        for i in range(ROWS):
            for j in range(COLUMNS):
                A[i][j] = pulsed(A[i][j], scheme.fast_rate * sign[j] * update[i][j])
        for _ in range(scheme.columns if step % scheme.every == 0 else 0):
            j = column % COLUMNS
            for i in range(ROWS):
                asked = scheme.rate * sign[j] * A[i][j]
                if isinstance(scheme, TikiTakaV2):
                    H[i][j] += asked / D
                    pulses = math.trunc(H[i][j]) if abs(H[i][j]) >= scheme.threshold else 0
                    H[i][j] -= pulses
                    asked = D * pulses
                C[i][j] = pulsed(C[i][j], asked)
            if isinstance(scheme, TikiTakaV2) and scheme.flip_probability == 1:
                sign[j] = -sign[j]
            column += 1
    return torch.tensor(C) + scheme.gamma * torch.tensor(A)


@pytest.mark.parametrize(
    "scheme",
    [
        TikiTaka(every=1, columns=1, fast_rate=1.5, rate=0.5),
        TikiTaka(every=3, columns=2, fast_rate=1.0, rate=0.7, gamma=0.3),
        TikiTakaV2(every=2, columns=3, fast_rate=1.0, rate=0.3, threshold=1.0),
        TikiTakaV2(
            every=1,
            columns=4,
            fast_rate=1.0,
            rate=0.2,
            threshold=2.5,
            flip_probability=1.0,
            gamma=0.2,
        ),
    ],
)
def test_a_step_is_the_loop_over_devices(scheme: TikiTaka) -> None:
    generator = torch.Generator().manual_seed(0)
    updates = 0.1 * torch.randn(12, ROWS, COLUMNS, generator=generator)
    layer = nn.Linear(COLUMNS, ROWS, bias=False)
    layer.weight.data.uniform_(-0.5, 0.5, generator=generator)
    expected = slowly(scheme, layer.weight.tolist(), updates.tolist())
    start = layer.weight.detach().clone()
    curve = LinearStep(gamma_up=0.5, gamma_down=0.5)
    constraint = on_devices(layer, curve=curve, update=scheme, **PULSED)
    for update in updates:
        layer.weight.data.add_(update)
        constraint.step()
    torch.testing.assert_close(layer.weight.detach(), expected, atol=2e-5, rtol=0)
    assert not torch.allclose(expected, start, atol=D)


@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
def test_a_column_is_what_one_input_meets_in_each_array(mapping: str) -> None:
    linear, conv = nn.Linear(3, 2), nn.Conv2d(4, 6, (1, 2), groups=2)
    transposed = nn.ConvTranspose1d(2, 3, 4, bias=False)
    net = nn.Sequential(linear, conv, transposed)
    synapses = find_synapses(net, with_bias=True)
    arrays = 2 if mapping == "differential" else 1
    conductances = [[s.parameter] * arrays for s in synapses]
    lines = input_lines(synapses, conductances)
    shapes = [(3, 2), (1, 2), (4, 6), (1, 6), (2, 12)]
    assert [tuple(of.shape) for of in lines] == [s for s in shapes for _ in range(arrays)]
    flat = torch.cat([p.reshape(-1) for of in conductances for p in of])
    found = {tuple(of.shape): flat[of] for of in lines}
    assert torch.equal(found[3, 2], linear.weight.T)
    assert torch.equal(found[4, 6][1], conv.weight[:, 0, 0, 1])  # of both groups
    assert torch.equal(found[2, 12], transposed.weight.flatten(1))
    used = torch.cat([of.reshape(-1) for of in lines]).sort().values
    assert torch.equal(used, torch.arange(len(flat)))


def symmetric(curve: StepModel | str, count: int = 50, **changes: Any) -> tuple[Tensor, Any]:
    settings = DeviceSettings(**device_settings(curve=curve, **PULSED | changes))
    random = RandomSource(0, torch.device("cpu"))
    devices = draw_devices(settings, count, random)
    points = symmetry_points(settings, devices, count, random)
    return points, build_response(settings, devices, random)


@pytest.mark.parametrize(
    "changes",
    [
        {"curve": LinearStep(gamma_up=0.5, gamma_down=0.3, device_spread={"up_down": 0.05})},
        {"curve": ExpStep(device_spread={"step": 0.1, "up_down": 0.01}), "bound_variation": 0.03},
        {"curve": "exponential", "nonlinearity_ltp": 1.0, "nonlinearity_ltd": -2.0},
    ],
    ids=["linear", "exponential step", "exponential curve"],
)
def test_at_the_start_pulses_up_and_down_are_equal(changes: dict[str, Any]) -> None:
    points, response = symmetric(**changes)
    up, down = points.clone(), points.clone()
    response.respond(up, torch.ones(len(points)))
    response.respond(down, -torch.ones(len(points)))
    torch.testing.assert_close(up - points, points - down, atol=2e-3 * D, rtol=0)


def test_pulses_up_and_down_in_turn_lead_there() -> None:
    curve = LinearStep(gamma_up=0.5, gamma_down=0.3, device_spread={"up_down": 0.05})
    points, response = symmetric(curve)
    w = points + 10 * D
    for pulse in [1.0, -1.0] * 300:
        response.respond(w, torch.full((len(points),), pulse))
    torch.testing.assert_close(w, points, atol=D, rtol=0)


@pytest.mark.parametrize("curve", [ConstantStep(), ConstantStep(up_down=0.2)])
def test_constant_steps_have_no_symmetry_point_so_they_start_in_the_middle(
    curve: StepModel,
) -> None:
    points, _ = symmetric(curve)
    torch.testing.assert_close(points, torch.zeros(len(points)))


def drift(update: Any) -> float:
    """Return how far updates that cancel out move weights of asymmetric devices, in steps."""
    layer = nn.Linear(200, 10, bias=False)
    layer.weight.data.fill_(0.8)
    curve = LinearStep(gamma_up=0.9, gamma_down=0.9)
    constraint = on_devices(layer, curve=curve, update=update, **PULSED)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        layer.weight.data.add_(2 * D * torch.randn(10, 200, generator=generator))
        constraint.step()
    return abs(float(layer.weight.detach().mean() - 0.8) / D)


def test_updates_that_cancel_out_leave_the_weights_alone() -> None:
    """Written directly, the asymmetry pulls them toward the symmetry point."""
    assert drift("direct") > 20
    assert drift(TikiTakaV2(columns=200, fast_rate=1.0, rate=0.02, threshold=1.0)) < 5


def test_choppers_cancel_a_wrong_zero_of_the_fast_array() -> None:
    """The fast array is read with an error, as where its start is not its symmetry point."""

    def moved(flip_probability: float) -> float:
        layer = nn.Linear(200, 10, bias=False)
        nn.init.zeros_(layer.weight)
        scheme = TikiTakaV2(columns=200, rate=0.2, threshold=1.0, flip_probability=flip_probability)
        constraint = on_devices(layer, curve=ConstantStep(), update=scheme, **PULSED)
        constraint.state_dict()["devices"]["update.fast_start"] += 2 * D
        for _ in range(60):
            constraint.step()
        return abs(float(layer.weight.detach().mean()) / D)

    assert moved(0.0) > 20
    assert moved(0.5) < 4


def test_without_a_scheme_there_is_nothing_of_it() -> None:
    layer = nn.Linear(3, 2)
    state = on_devices(layer, **PULSED).state_dict()
    assert state["devices"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, r"constraint.update.every=0: allowed is a whole number of at least 1"),
        ({"columns": 0}, r"constraint.update.columns=0: allowed"),
        ({"fast_rate": 0.0}, r"constraint.update.fast_rate=0.0: allowed"),
        ({"rate": 0.0}, r"constraint.update.rate=0.0: allowed"),
        ({"gamma": -0.1}, r"constraint.update.gamma=-0.1: allowed"),
        ({"threshold": -1.0}, r"constraint.update.threshold=-1.0: allowed is a number, at least 0"),
        ({"flip_probability": 1.1}, r"constraint.update.flip_probability=1.1: allowed"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TikiTakaV2(**arguments)


def test_devices_that_go_one_way_only_are_refused() -> None:
    curve = ConstantStep(potentiation_only=True)
    with pytest.raises(UserError, match="TikiTaka: the fast array needs pulses in both directions"):
        DeviceConstraint(**device_settings(curve=curve, update=TikiTaka(), **PULSED))


@pytest.mark.parametrize("option", ["clip", "memristor", "ag_si", "reram_es"])
def test_the_option_goes_with_every_device(option: str, compose_config: Compose) -> None:
    constraint = build_constraint(
        compose_config(f"constraint={option}", "constraint/update=tiki_taka_v2",
                       "constraint.update.threshold=5")
    )  # fmt: skip
    assert constraint is not None
    assert constraint.update == TikiTakaV2(threshold=5)
    layer = nn.Linear(30, 20)
    constraint.attach(layer, seed=0)
    assert layer.weight.isfinite().all()


def test_a_stuck_or_flawed_fast_array_reads_zero_at_the_start() -> None:
    layer = nn.Linear(30, 20)
    constraint = on_devices(layer, **FLAWS | {"update": TikiTaka(rate=1.0)})
    devices = constraint.state_dict()["devices"]
    assert torch.equal(devices["update.fast"], devices["update.fast_start"])
    stuck = devices["update.device.stuck_indices"]
    assert torch.equal(devices["update.fast"][stuck], devices["update.device.stuck_values"])

"""Step models against a slow loop over devices and pulses; their spread and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from mnist_exp.device import (
    ConstantStep,
    DeviceSettings,
    ExpStep,
    LinearStep,
    PowStep,
    SoftBounds,
    StepModel,
)
from mnist_exp.device.pulse_response import StepResponse
from mnist_exp.device.random_source import RandomSource
from mnist_exp.experiment.constraint import build_constraint
from tests.helpers.device_settings import device_settings

RANGE: dict[str, Any] = {"W_min": -0.8, "W_max": 1.2, "levels": 41, "pulse_rounding": "nearest"}
D = 0.05
COUNT = 200
# model and shape(w, up, n), with n the numbers of one device
Shape = Callable[[float, bool, SimpleNamespace], float]
MODELS: list[tuple[StepModel, Shape]] = [
    (ConstantStep(up_down=-0.3, device_spread={"step": 0.3, "up_down": 0.1}), lambda w, up, n: 1.0),
    (
        LinearStep(
            gamma_up=0.3, gamma_down=0.5, origin=0.1, device_spread={"gamma_up": 0.1, "step": 0.1}
        ),
        lambda w, up, n: (
            1 - abs(n.gamma_up) * (w - 0.1) / 1.1 if up else 1 - 0.5 * (w - 0.1) / -0.9
        ),
    ),
    (
        SoftBounds(device_spread={"origin": 0.02}),
        lambda w, up, n: (
            (n.W_max - w) / (n.W_max - n.origin) if up else (w - n.W_min) / (n.origin - n.W_min)
        ),
    ),
    (
        ExpStep(up_down=0.2, device_spread={"A_down": 0.01, "b": 0.01}),
        lambda w, up, n: (
            1 - 0.00081 * math.exp(12.44625 * (2 * 0.244 * w / (n.W_max - n.W_min) + n.b))
            if up
            else 1
            - n.A_down * math.exp(-12.78785 * (2 * 0.244 * w / (n.W_max - n.W_min) + n.b))
        ),
    ),
    (
        PowStep(gamma_up=1.5, gamma_down=0.5, device_spread={"gamma_down": 0.1}),
        lambda w, up, n: (
            ((n.W_max - w) / (n.W_max - n.W_min)) ** 1.5
            if up
            else ((w - n.W_min) / (n.W_max - n.W_min)) ** abs(n.gamma_down)
        ),
    ),
]  # fmt: skip


def response(model: StepModel, count: int, spread: float = 0.0) -> StepResponse:
    """Return the response of ``count`` devices, their bounds spread."""
    random = RandomSource(1, torch.device("cpu"))
    low, high = (torch.as_tensor(bound + spread * random.normal(count)) for bound in (-0.8, 1.2))
    settings = DeviceSettings(curve=model, **RANGE)
    return StepResponse(model, model.draw(count, random), settings, low, high, random)


def slowly(answer: StepResponse, shape: Shape, w: list[float], pulses: list[int]) -> list[float]:
    after = []
    for i, (start, count) in enumerate(zip(w, pulses, strict=True)):
        numbers = {
            name: float(n[i]) if isinstance(n, Tensor) else n for name, n in answer.numbers.items()
        }
        n, up, mean = SimpleNamespace(**numbers), count > 0, answer.model.up_down
        direction = n.step + (n.up_down - mean) * (1 if up else -1)
        direction -= max(-mean, 0) if up else max(mean, 0)
        value = start
        for _ in range(abs(count)):
            size = D * max(direction, 0) * max(shape(value, up, n), 0)
            value = min(max(value + (size if up else -size), n.W_min), n.W_max)
        after.append(value)
    return after


@pytest.mark.parametrize(("model", "shape"), MODELS, ids=lambda part: type(part).__name__)
def test_pulses_are_the_loop_over_devices_and_pulses(model: StepModel, shape: Shape) -> None:
    answer = response(model, COUNT, spread=0.05)
    generator = torch.Generator().manual_seed(0)
    low, high = torch.as_tensor(answer.W_min), torch.as_tensor(answer.W_max)
    w = low + (high - low) * torch.rand(COUNT, generator=generator)
    pulses = torch.randint(-6, 7, (COUNT,), generator=generator)
    expected = slowly(answer, shape, w.tolist(), pulses.tolist())
    answer.respond(w, pulses.float())
    torch.testing.assert_close(w, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("up_down", "up", "down"), [(0.2, 1.0, 0.8), (-0.2, 0.8, 1.0), (0.5, 1.0, 0.5)]
)
def test_up_down_reduces_one_direction(up_down: float, up: float, down: float) -> None:
    """The sizes measured on release 1.1.0 of the simulator that these models come from."""
    w = torch.zeros(2)
    response(ConstantStep(up_down=up_down), 2).respond(w, torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(w, torch.tensor([up * D, -down * D]))


def test_numbers_may_be_numpy_s() -> None:
    assert LinearStep(gamma_up=np.float32(0.5)).means["gamma_up"] == 0.5
    assert "write_noise" not in SoftBounds(write_noise=np.float32(1)).means


def test_mean_pulses_span_the_range() -> None:
    w = torch.full((1,), -0.8)
    response(ConstantStep(), 1).respond(w, torch.tensor([39.0]))
    assert w.item() == pytest.approx(1.15, abs=1e-5)


@pytest.mark.parametrize(
    ("spread", "deviation"), [({"step": 0.3}, 0.3 * 0.5), ({"offset": 0.3}, 0.3)]
)
def test_noise_is_of_the_pulse_or_of_the_step(spread: dict[str, float], deviation: float) -> None:
    """At half the way to a soft bound: noise in proportion to the pulse, or of the full step."""
    count = 20_000
    w = torch.full((count,), 0.6)
    response(SoftBounds(cycle_spread=spread), count).respond(w, torch.ones(count))
    change = (w - 0.6) / D
    assert change.mean().item() == pytest.approx(0.5, abs=5 * deviation / math.sqrt(count))
    assert change.std().item() == pytest.approx(deviation, rel=0.03)


def test_each_pulse_has_noise_of_its_own() -> None:
    count = 20_000
    w = torch.zeros(count)
    response(ConstantStep(cycle_spread={"step": 0.3}), count).respond(w, torch.full((count,), 4.0))
    assert (w / D).std().item() == pytest.approx(0.3 * 2, rel=0.03)


def test_write_noise_is_read_but_pulses_do_not_add_it_up() -> None:
    count = 20_000
    answer, w = response(ConstantStep(write_noise=2.0), count), torch.zeros(count)
    for _ in range(3):
        answer.respond(w, torch.ones(count))
    noise = w - 3 * D
    assert noise.std().item() == pytest.approx(2.0 * D, rel=0.03)
    torch.testing.assert_close(answer.drawn["write_offset"], noise, atol=1e-5, rtol=0)
    before = w.clone()
    answer.respond(w, torch.zeros(count))
    assert torch.equal(w, before)


def test_a_device_for_potentiation_only_ignores_pulses_down() -> None:
    w = torch.zeros(2)
    response(ConstantStep(potentiation_only=True), 2).respond(w, torch.tensor([2.0, -2.0]))
    torch.testing.assert_close(w, torch.tensor([2 * D, 0.0]))


def test_an_endless_update_ends_at_the_bound_and_none_at_all_is_passed_on() -> None:
    w = torch.zeros(3)
    response(ConstantStep(), 3).respond(w, torch.tensor([math.inf, -1e12, math.nan]))
    torch.testing.assert_close(w, torch.tensor([1.2, -0.8, math.nan]), equal_nan=True)


@dataclass(kw_only=True)
class RootStep(StepModel):
    """A step model of a user's own."""

    scale: float = 1.0

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        left = device.W_max - w if up else w - device.W_min
        return torch.as_tensor(device.scale * (left / (device.W_max - device.W_min)).sqrt())


def test_a_class_of_your_own_is_a_step_model_with_spread() -> None:
    """Through the configuration, on a network: a quarter of the range left, so half a step."""
    curve = {
        "_target_": f"{__name__}.RootStep", "scale": 2.0, "device_spread": {"scale": 0.1}
    }  # fmt: skip
    settings = device_settings("_ideal", **RANGE)
    config = {"_target_": "mnist_exp.device.DeviceConstraint", **settings, "curve": curve}
    constraint = build_constraint(OmegaConf.create({"constraint": config}))
    assert constraint is not None
    layer = nn.Linear(40, 50, bias=False)
    layer.weight.data.fill_(0.7)
    constraint.attach(layer, seed=0)
    layer.weight.data.add_(D)
    constraint.step()
    change = (layer.weight.detach() - 0.7) / D
    assert change.mean().item() == pytest.approx(1.0, abs=0.01)
    assert change.std().item() == pytest.approx(0.05, rel=0.1)

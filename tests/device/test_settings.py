"""Device settings: which are refused; every option of the group is accepted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_exp.device import (
    ConstantStep,
    DeviceConstraint,
    ExpStep,
    LinearStep,
    PowStep,
    SoftBounds,
    StepModel,
)
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from tests.helpers.device_settings import device_settings

OPTIONS = sorted(path.stem for path in Path(config_directory(), "constraint").glob("*.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_min": 0.5, "W_max": 0.5}, r"W_min=0.5: must be below W_max=0.5"),
        ({"W_min": float("-inf")}, r"W_min=-inf"),
        ({"levels": 1}, r"levels=1"),
        ({"levels": 100.0}, r"levels=100.0"),
        ({"levels": 2**24 + 1}, r"levels=16777217: allowed is a whole number from 2 to 16777216"),
        (
            {"quantize": True, "rounding": "straight_through", "bound_variation": 0.1},
            r"bound_variation=0.1: rounding=straight_through",
        ),
        ({"gain": True}, r"gain=true: allowed is a number"),
        ({"clip": 1}, r"clip=1: allowed is true or false"),
        ({"quantize": "off"}, r"quantize=off: allowed is true or false"),
        ({"levels": 2.5}, r"levels=2.5"),
        ({"gain": 0.0}, r"gain=0.0"),
        ({"rounding": "up"}, r"rounding=up: allowed is nearest or stochastic or"),
        ({"mapping": "pair"}, r"mapping=pair: allowed is direct or reference or differential"),
        ({"bias": "none"}, r"bias=none"),
        ({"pulse_rounding": "up"}, r"pulse_rounding=up"),
        ({"retention": -1e-5}, r"retention=-1e-05"),
        ({"retention": 1.5}, r"retention=1.5"),
        ({"retention_tau": 0.0}, r"retention_tau=0.0"),
        ({"retention": 0.1, "retention_tau": 10.0}, r"set one of them to null"),
        ({"retain": True}, r"retain=true: needs retention or retention_tau"),
        ({"retention_target": float("nan")}, r"retention_target=nan"),
        ({"nonlinearity_ltp": 9.5}, r"nonlinearity_ltp=9.5"),
        ({"write_noise": -0.1}, r"write_noise=-0.1"),
        ({"rate_variation": float("nan")}, r"rate_variation=nan"),
        ({"stuck_at_min": 0.6, "stuck_at_max": 0.6}, r"together at most 1"),
        (
            {"bound_variation": [0.1]},
            r"bound_variation=\[0.1\]: allowed is a number, at least 0, or",
        ),
        ({"bound_variation": 0.31}, r"bound_variation=0.31: .* more than 1 % of the devices cross"),
        ({"bound_variation": [0.0, 0.5]}, r"allowed is up to 0.43 for one bound"),
        ({"curve": "linear"}, r"curve=linear: allowed is exponential, or a step model such as"),
        ({"curve": torch.zeros(1)}, r"curve=tensor.*allowed is exponential, or a step model such"),
        ({"curve": ConstantStep()}, r"pulse_rounding=none: a step model takes whole pulses"),
        (
            {"curve": ConstantStep(), "write_noise": 0.1},
            r"write_noise=0.1: is of curve=exponential",
        ),
        (
            {"curve": SoftBounds(origin=1.0)},
            r"curve.origin=1.0: must be above W_min=-1.0 and below",
        ),
        ({"curve": LinearStep(origin=-2.0)}, r"curve.origin=-2.0: must be above W_min=-1.0"),
        (
            {"curve": ExpStep(A_up=0.9, gamma_up=3.0, a=0.5)},
            r"ExpStep\): a pulse up at conductance 1 has the size -7.35 D; it must",
        ),
        (
            {"curve": ExpStep(A_down=1.0, gamma_down=0.0)},
            r"a pulse down has the size 0 at every conductance in \[-1, 1\]",
        ),
        ({"diagnose_every": 0}, r"diagnose_every=0"),
    ],
)
def test_refuses_what_no_device_can_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeviceConstraint(**device_settings(**changes))


@pytest.mark.parametrize(
    ("model", "numbers", "message"),
    [
        (ConstantStep, {"up_down": 1.0}, r"curve.up_down=1.0: .* above -1 and below 1"),
        (LinearStep, {"gamma_up": 1.2}, r"curve.gamma_up=1.2: .* turns negative within the bounds"),
        (PowStep, {"gamma_down": -1.0}, r"curve.gamma_down=-1.0"),
        (
            ConstantStep,
            {"device_spread": {"step": -0.3}},
            r"device_spread.step=-0.3: allowed is a nu",
        ),
        (ConstantStep, {"device_spread": 0.3}, r"device_spread=0.3: allowed is a group of numbers"),
        (
            LinearStep,
            {"cycle_spread": {"gama_up": 0.1}},
            r"cycle_spread.gama_up: LinearStep has no such number; allowed are step, offset, ",
        ),
        (SoftBounds, {"write_noise": float("nan")}, r"curve.write_noise=nan"),
    ],
)
def test_refuses_what_no_step_can_be(
    model: type[StepModel], numbers: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        model(**numbers)


def test_reports_all_mistakes_together() -> None:
    with pytest.raises(UserError) as error:
        DeviceConstraint(**device_settings(levels=1, gain=-1.0, mapping="pair"))
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "none"])
def test_every_option_describes_a_possible_device(option: str) -> None:
    constraint = DeviceConstraint(**device_settings(option))
    assert constraint.W_min < constraint.W_max

"""The package's step models as numbers that a kernel computes pulses with.

Other models, and noise of other numbers than ``step`` and ``offset``, have none: torch gives their
pulses, as `mnist_exp.device.pulse_response` does for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

from torch import Tensor

from mnist_exp.cpu.step_devices import Direction, StepDevices
from mnist_exp.device.quantization import Number
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.step_shapes import (
    ConstantStep,
    ExpStep,
    LinearStep,
    PowStep,
    SoftBounds,
)

Coefficients = tuple[Number, ...]  # constant and slope of a line in w, and a third one
NOISY = {"step", "offset"}  # numbers whose noise from pulse to pulse a kernel draws


def _constant(model: ConstantStep, up: bool, device: SimpleNamespace) -> Coefficients:
    return 1.0, 0.0


def _linear(model: LinearStep, up: bool, device: SimpleNamespace) -> Coefficients:
    bound = device.mean_W_max if up else device.mean_W_min
    slope = -abs(device.gamma_up if up else device.gamma_down) / (bound - model.origin)
    return 1 - slope * device.origin, slope


def _soft_bounds(model: SoftBounds, up: bool, device: SimpleNamespace) -> Coefficients:
    slope = (-1 if up else 1) / model.room(up, device)
    return -slope * (device.W_max if up else device.W_min), slope


def _exponential(model: ExpStep, up: bool, device: SimpleNamespace) -> Coefficients:
    gamma = device.gamma_up if up else -device.gamma_down
    slope = gamma * 2 * device.a / (device.W_max - device.W_min)
    return gamma * device.b, slope, device.A_up if up else device.A_down


def _power(model: PowStep, up: bool, device: SimpleNamespace) -> Coefficients:
    slope = (-1 if up else 1) / (device.W_max - device.W_min)
    exponent = abs(device.gamma_up if up else device.gamma_down)
    return -slope * (device.W_max if up else device.W_min), slope, exponent


# By the very class: one derived from it may have another shape.
LAWS: dict[type[StepModel], tuple[str, Callable[..., Coefficients]]] = {
    ConstantStep: ("line", _constant),
    LinearStep: ("line", _linear),
    SoftBounds: ("line", _soft_bounds),
    ExpStep: ("exponential", _exponential),
    PowStep: ("power", _power),
}


def step_devices(
    model: StepModel,
    numbers: Mapping[str, Number],
    drawn: Mapping[str, Tensor],
    D: float,
    most: int,
) -> StepDevices | None:
    """Return the devices of a step model for a kernel; None if it has none.

    Parameters
    ----------
    model : StepModel
        Size of a pulse.
    numbers : mapping of str to float or Tensor
        Of the devices, as `StepModel.shape` takes them.
    drawn : mapping of str to Tensor
        Their own ones, from `StepModel.draw`.
    D : float
        Mean step.
    most : int
        Pulses that a device gets at once.
    """
    noisy = {name: float(sigma) for name, sigma in model.cycle_spread.items() if sigma > 0}
    if type(model) not in LAWS or not noisy.keys() <= NOISY:
        return None
    shape, law = LAWS[type(model)]
    device = SimpleNamespace(**numbers)
    up, down = (
        Direction((D if up else -D) * model.share(up, device), *law(model, up, device))
        for up in (True, False)
    )
    return StepDevices(
        shape, device.W_min, device.W_max, up, down, device.offset,
        step_noise=noisy.get("step", 0.0), offset_noise=noisy.get("offset", 0.0),
        write_noise=model.write_noise * D, write_offset=drawn.get("write_offset"), most=most,
        up_only=model.potentiation_only,
    )  # fmt: skip

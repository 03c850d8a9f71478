"""Step models: the size of one pulse as a function of the conductance, by their usual names.

Formulas as documented by M. J. Rasch et al., AICAS 2021 (arXiv:2104.02184); see
`mnist_exp.device.step_model` for what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.step_model import StepModel
from mnist_exp.schema.device_parts import EXP_STEP, LINEAR_STEP, POW_STEP, SOFT_BOUNDS
from mnist_exp.schema.rule import Rule

NEAREST_BOUND = 0.05  # of soft bounds to their origin, as a share of the mean distance


@dataclass(kw_only=True)
class ConstantStep(StepModel):
    """Pulses of one size: ``shape = 1``. T. Gokmen, Y. Vlasov, Front. Neurosci. 10:333, 2016."""

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return ones."""
        return torch.ones_like(w)


@dataclass(kw_only=True)
class LinearStep(StepModel):
    """Pulses that shrink linearly toward the bound: ``shape = 1 - gamma (w - origin) / room``.

    ``room`` is the distance from ``origin`` to the mean bound in the direction of the pulse; the
    shape is 1 at the origin and ``1 - gamma`` at that bound.

    Parameters
    ----------
    gamma_up, gamma_down : float
        From 0 (constant) to 1 (no step at the bound). Devices take the magnitude of what they draw.
    origin : float
        Conductance at which pulses have the size D; between the bounds.
    """

    rules: ClassVar[Mapping[str, Rule]] = LINEAR_STEP
    gamma_up: float = 0.0
    gamma_down: float = 0.0
    origin: float = 0.0

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the line."""
        bound = device.mean_W_max if up else device.mean_W_min
        gamma = device.gamma_up if up else device.gamma_down
        return 1 - abs(gamma) * (w - device.origin) / (bound - self.origin)

    def misfits(self, W_min: float, W_max: float) -> Iterator[str]:
        """Yield a message if the origin is not between the bounds."""
        yield from _misplaced_origin(self.origin, W_min, W_max) or super().misfits(W_min, W_max)


@dataclass(kw_only=True)
class SoftBounds(StepModel):
    """Pulses in proportion to what is left: ``shape = (bound - w) / (bound - origin)``.

    The bound is the device's own in the direction of the pulse; the shape is 1 at the origin. It is
    `LinearStep` with gamma 1. A bound drawn closer to the origin than a twentieth of the mean
    distance counts as this far away in the denominator.

    Parameters
    ----------
    origin : float
        Conductance at which pulses have the size D; between the bounds.
    """

    rules: ClassVar[Mapping[str, Rule]] = SOFT_BOUNDS
    origin: float = 0.0

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the share that is left."""
        return (device.W_max - w if up else w - device.W_min) / self.room(up, device)

    def room(self, up: bool, device: SimpleNamespace) -> Tensor | float:
        """Return the distance from the origin to the bound in a direction."""
        bound, mean = (device.W_max, device.mean_W_max) if up else (device.W_min, device.mean_W_min)
        least = NEAREST_BOUND * abs(mean - self.origin)
        toward = bound - device.origin if up else device.origin - bound
        return toward.clamp(min=least) if isinstance(toward, Tensor) else max(toward, least)

    def misfits(self, W_min: float, W_max: float) -> Iterator[str]:
        """Yield a message if the origin is not between the bounds."""
        yield from _misplaced_origin(self.origin, W_min, W_max) or super().misfits(W_min, W_max)


@dataclass(kw_only=True)
class ExpStep(StepModel):
    """``shape = 1 - A exp(d gamma z)`` with ``z = 2 a w / (W_max - W_min) + b``.

    d is +1 up and -1 down, and the bounds are the device's own. Fitted to a resistive memory of
    N. Gong et al., Nat. Commun. 9:2102, 2018.

    Parameters
    ----------
    A_up, A_down : float
        Amplitudes; 0: constant step.
    gamma_up, gamma_down : float
        Exponents.
    a, b : float
        Slope and offset of z.
    """

    rules: ClassVar[Mapping[str, Rule]] = EXP_STEP
    A_up: float = 0.00081
    A_down: float = 0.36833
    gamma_up: float = 12.44625
    gamma_down: float = 12.78785
    a: float = 0.244
    b: float = 0.2425

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the exponential."""
        z = 2 * device.a * w / (device.W_max - device.W_min) + device.b
        if up:
            return 1 - device.A_up * (device.gamma_up * z).exp()
        return 1 - device.A_down * (-device.gamma_down * z).exp()


@dataclass(kw_only=True)
class PowStep(StepModel):
    """``shape = omega ** gamma``, omega the share of the device's range left in the direction.

    After S. Fusi, L. F. Abbott, Nat. Neurosci. 10:485, 2007. The mean step over the range is below
    D, which is the step at the opposite bound.

    Parameters
    ----------
    gamma_up, gamma_down : float
        Exponents, at least 0; 1: soft bounds. Devices take the magnitude of what they draw.
    """

    rules: ClassVar[Mapping[str, Rule]] = POW_STEP
    gamma_up: float = 1.0
    gamma_down: float = 1.0

    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the power."""
        left = device.W_max - w if up else w - device.W_min
        omega = (left / (device.W_max - device.W_min)).clamp(0, 1)
        return omega ** abs(device.gamma_up if up else device.gamma_down)


def _misplaced_origin(origin: float, W_min: float, W_max: float) -> list[str]:
    if W_min < origin < W_max:
        return []
    return [
        f"constraint.curve.origin={origin}: must be above W_min={W_min} and below W_max={W_max}, "
        f"for instance {(W_min + W_max) / 2:g}, the middle"
    ]

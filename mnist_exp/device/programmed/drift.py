"""How stored conductances change with time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from mnist_exp.device.programmed.programming import SMALLEST, normal_like
from mnist_exp.schema.programmed_parts import EXPONENTIAL_RETENTION, POWER_LAW_DRIFT
from mnist_exp.schema.rule import check_settings

PCM_NU_MEAN = (-0.0155, 0.0244, 0.049, 0.1)
PCM_NU_SPREAD = (-0.0125, -0.0059, 0.008, 0.045)
KEY = "evaluation.drift"

Course = Callable[[float], Tensor]


class Drift(ABC):
    """Change of conductances after they were programmed; base of your own.

    Examples
    --------
    >>> class LogarithmicLoss(Drift):
    ...     def __init__(self, rate: float) -> None:
    ...         self.rate = rate
    ...
    ...     def start(self, programmed, target, generator):
    ...         return lambda seconds: programmed * (1 - self.rate * math.log1p(seconds))
    """

    @abstractmethod
    def start(self, programmed: Tensor, target: Tensor, generator: Generator) -> Course:
        """Draw what differs from device to device; return the conductances as a function of time.

        Parameters
        ----------
        programmed : Tensor
            Conductances when the programming ended, float32 of any shape; not to be changed.
        target : Tensor
            What was to be programmed, of the same shape.
        generator : torch.Generator
            For random numbers, on the device of the conductances.

        Returns
        -------
        callable
            From seconds since the programming to conductances of the same shape.
        """


class PowerLawDrift(Drift):
    """``g(t) = g(t0) (t / t0)^(-nu)``, where ``t`` is ``t0`` at the end of the programming.

    Of each device ``nu`` is drawn once from a normal distribution and is not negative. Its mean and
    spread are numbers, or functions of the target: ``clamp(a ln g + b, low, high)``. The defaults
    are phase-change memory as published: S. R. Nandakumar et al., ICECS 2019; V. Joshi et al.,
    Nature Communications 11:2473, 2020.

    Parameters
    ----------
    t0 : float
        Seconds from a write to the reading that ends the programming, > 0.
    nu_mean, nu_spread : float or sequence of float
        Mean and standard deviation of ``nu``: a number, or ``[a, b, low, high]``.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(
        self,
        t0: float = 20.0,
        nu_mean: float | Sequence[float] = PCM_NU_MEAN,
        nu_spread: float | Sequence[float] = PCM_NU_SPREAD,
    ) -> None:
        settings = {"t0": t0, "nu_mean": nu_mean, "nu_spread": nu_spread}
        check_settings(POWER_LAW_DRIFT, settings, KEY)
        self.t0, self.nu_mean, self.nu_spread = t0, nu_mean, nu_spread

    def start(self, programmed: Tensor, target: Tensor, generator: Generator) -> Course:
        """Draw ``nu`` of each device."""
        logarithm = target.clamp(min=SMALLEST).log_()
        nu = normal_like(target, generator).mul_(_of(logarithm, self.nu_spread))
        nu = nu.add_(_of(logarithm, self.nu_mean)).clamp_(min=0)

        def course(seconds: float) -> Tensor:
            return programmed * torch.exp(nu * -math.log1p(seconds / self.t0))

        return course


def _of(logarithm: Tensor, number: float | Sequence[float]) -> float | Tensor:
    """Return a number, or ``clamp(a ln g + b, low, high)``."""
    if not isinstance(number, Sequence):
        return number
    a, b, low, high = number
    return (logarithm * a).add_(b).clamp_(low, high)


class ExponentialRetention(Drift):
    """``g(t) = target + (g(0) - target) exp(-t / tau)``, as `retention` in training.

    Parameters
    ----------
    tau : float
        Time constant in seconds, > 0; the median over the devices.
    tau_spread : float
        Standard deviation of ``ln tau`` from device to device.
    target : float
        Conductance at which the drift ends, in shares of ``g_max``.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(self, tau: float, tau_spread: float = 0.0, target: float = 0.0) -> None:
        settings = {"tau": tau, "tau_spread": tau_spread, "target": target}
        check_settings(EXPONENTIAL_RETENTION, settings, KEY)
        self.tau, self.tau_spread, self.target = tau, tau_spread, target

    def start(self, programmed: Tensor, target: Tensor, generator: Generator) -> Course:
        """Draw ``tau`` of each device."""
        rate: Tensor = torch.full_like(programmed, 1 / self.tau)
        if self.tau_spread:
            rate *= normal_like(programmed, generator).mul_(self.tau_spread).exp_()

        def course(seconds: float) -> Tensor:
            return self.target + (programmed - self.target) * torch.exp(rate * -seconds)

        return course

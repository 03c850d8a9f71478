"""Writing conductances once: the error of a write, and writing again until it is small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from mnist_exp.schema.programmed_parts import PROGRAMMING_ERROR, WRITE_VERIFY
from mnist_exp.schema.rule import check_settings

PCM_SIGMA = (0.26348, 1.9650, -1.1731)
KEY = "evaluation.programming"
SMALLEST = 1e-7  # conductance that stands for 0 in logarithms and negative powers


class ProgrammingError:
    """A normal error of each write, whose deviation is a polynomial of the target.

    ``sigma(g) = (c0 + c1 g + c2 g^2 + ...) / g_max``, in shares of ``g_max``, at least 0. The
    defaults are those measured on a million phase-change devices: S. R. Nandakumar et al., ICECS
    2019; V. Joshi et al., Nature Communications 11:2473, 2020.

    Parameters
    ----------
    sigma : sequence of float
        Coefficients c0, c1, ... in microsiemens.
    g_max : float
        Largest conductance in microsiemens, > 0.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(self, sigma: Sequence[float] = PCM_SIGMA, g_max: float = 25.0) -> None:
        check_settings(PROGRAMMING_ERROR, {"sigma": sigma, "g_max": g_max}, KEY)
        self.sigma, self.g_max = sigma, g_max

    def deviation(self, target: Tensor) -> Tensor:
        """Return the standard deviation of a write, of the target's shape."""
        total = torch.zeros_like(target)
        for coefficient in reversed(self.sigma):  # Horner's scheme
            total.mul_(target).add_(coefficient / self.g_max)
        return total.clamp_(min=0)

    def __call__(self, target: Tensor, generator: Generator) -> Tensor:
        """Return the conductances written for ``target``; none is negative."""
        return _write(target, self.deviation(target), generator)


class WriteVerify(ProgrammingError):
    """Write, read back, and write again the devices that are off by more than a tolerance.

    Every write has the error of `ProgrammingError`, and the reading back none. A device keeps its
    first value within the tolerance, or else its last. The procedure is that of F. Alibart et al.,
    Nanotechnology 23:075201, 2012.

    Parameters
    ----------
    iterations : int
        Most writes of a device, >= 1.
    tolerance : float
        Largest accepted error, in shares of ``g_max``, > 0.
    sigma, g_max
        As in `ProgrammingError`.
    """

    def __init__(
        self,
        iterations: int = 10,
        tolerance: float = 0.02,
        sigma: Sequence[float] = PCM_SIGMA,
        g_max: float = 25.0,
    ) -> None:
        super().__init__(sigma, g_max)
        settings = {"iterations": iterations, "tolerance": tolerance}
        check_settings(WRITE_VERIFY, settings, KEY)
        self.iterations, self.tolerance = iterations, tolerance

    def __call__(self, target: Tensor, generator: Generator) -> Tensor:
        """Return the conductances that the last write of each device left."""
        deviation = self.deviation(target)
        written = _write(target, deviation, generator)
        for _ in range(self.iterations - 1):
            off = (written - target).abs() > self.tolerance
            if not off.any():
                break
            written[off] = _write(target[off], deviation[off], generator)
        return written


def _write(target: Tensor, deviation: Tensor, generator: Generator) -> Tensor:
    return normal_like(target, generator).mul_(deviation).add_(target).clamp_(min=0)


def normal_like(g: Tensor, generator: Generator) -> Tensor:
    """Return standard normal numbers of the shape, type and device of ``g``."""
    return torch.empty_like(g).normal_(generator=generator)

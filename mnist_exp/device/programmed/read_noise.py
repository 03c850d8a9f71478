"""Noise of reading conductances that were programmed."""

from __future__ import annotations

import math

from torch import Generator, Tensor

from mnist_exp.device.programmed.programming import SMALLEST, normal_like
from mnist_exp.schema.programmed_parts import READ_NOISE
from mnist_exp.schema.rule import check_settings


class ReadNoise:
    """White noise, and 1/f noise that has grown with the logarithm of time.

    ``sigma^2 = white^2 + (g(t) Q)^2 ln((t + t_read) / (2 t_read))`` with
    ``Q = min(flicker / g^exponent, largest)`` of the conductance ``g`` as programmed, and ``t``
    counted from ``t0`` before the end of the programming. The defaults are phase-change memory as
    published: S. R. Nandakumar et al., ICECS 2019; V. Joshi et al., Nature Communications 11:2473,
    2020.

    Parameters
    ----------
    white : float
        Standard deviation of the white noise, in shares of ``g_max``.
    flicker, exponent, largest : float
        Of the 1/f noise: ``Q`` of a device at ``g = 1``, how it falls with ``g``, and its bound.
    t_read : float
        Duration of a read in seconds, > 0.
    t0 : float
        Seconds from a write to the reading that ends the programming, > 0.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(
        self,
        white: float = 0.0,
        flicker: float = 0.0088,
        exponent: float = 0.65,
        largest: float = 0.2,
        t_read: float = 250e-9,
        t0: float = 20.0,
    ) -> None:
        self.white, self.flicker, self.exponent = white, flicker, exponent
        self.largest, self.t_read, self.t0 = largest, t_read, t0
        check_settings(READ_NOISE, vars(self), "evaluation.noise")

    def __call__(
        self, now: Tensor, programmed: Tensor, seconds: float, generator: Generator
    ) -> Tensor:
        """Return conductances as read at a time; none is negative.

        The noise is drawn once and stays for all images of a test. As each image meets one draw,
        the expected accuracy is that of a fresh draw for every image where a weight is read once an
        image.

        Parameters
        ----------
        now : Tensor
            Conductances at that time, float32 of any shape; not changed.
        programmed : Tensor
            The same when the programming ended.
        seconds : float
            Time since then.
        generator : torch.Generator
            For the noise, on the device of the conductances.
        """
        time = seconds + self.t0
        grown = math.log(max((time + self.t_read) / (2 * self.t_read), 1.0))
        power = programmed.clamp(min=SMALLEST).pow_(self.exponent)
        quality = power.reciprocal_().mul_(self.flicker).clamp_(max=self.largest)
        variance = quality.mul_(now).square_().mul_(grown).add_(self.white**2)
        return normal_like(now, generator).mul_(variance.sqrt_()).add_(now).clamp_(min=0)

"""Programming: how many pulses an update becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mnist_exp.cpu.step_devices import program_batch
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.pulse_response import Given, PulseResponse, build_response
from mnist_exp.device.pulses import accumulate_pulses
from mnist_exp.device.quantization import Number, level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.write_counter import WRITTEN, add_pulses


@dataclass
class Programming:
    """The update asked for, as pulses to which the devices respond.

    Parameters
    ----------
    rounding : {"none", "nearest", "stochastic", "accumulate"}
        How the update becomes whole pulses.
    W_min, W_max : float or Tensor
        Bounds that whoever asks for the update believes the devices to have.
    levels : int
        ``levels - 1`` pulses span them.
    rate_factor : Tensor or None
        Each device's factor on updates, [devices].
    response : PulseResponse
        Of these devices.
    random : RandomSource
        For stochastic rounding.
    remainder : Tensor or None
        The accumulator, in pulses, [devices].
    counts : Tensor or None
        Where whole pulses are counted, int32 [devices].
    """

    needs_before: ClassVar[bool] = True
    rounding: str
    W_min: Number
    W_max: Number
    levels: int
    rate_factor: Tensor | None
    response: PulseResponse
    random: RandomSource
    remainder: Tensor | None = None
    counts: Tensor | None = None

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Replace the change ``w - before`` by the one the device makes."""
        assert before is not None, "the constraint keeps it for effects that need it"
        if self._in_kernel(w, before):
            return
        pulses = w - before
        if self.rate_factor is not None:
            pulses *= self.rate_factor
        pulses /= level_distance(self.W_min, self.W_max, self.levels)
        if self.rounding == "nearest":
            pulses.round_()
        elif self.rounding == "stochastic":
            pulses.add_(self.random.uniform(len(w))).floor_()
        elif self.remainder is not None:
            pulses = accumulate_pulses(pulses, self.remainder)
        w.copy_(before)
        self._add(self.response.respond(w, pulses))

    def _in_kernel(self, w: Tensor, before: Tensor) -> bool:
        """Do the same in a kernel, with random numbers of its own; return whether it could."""
        devices = self.response.in_numbers()
        if devices is None:
            return False
        D = float(level_distance(self.W_min, self.W_max, self.levels))
        return program_batch(
            devices, w, before, D, self.rounding, self.random.seed,
            factor=self.rate_factor, remainder=self.remainder, counts=self.counts,
        )  # fmt: skip

    def write(self, w: Tensor, devices: Tensor, pulses: Tensor) -> None:
        """Give whole pulses to some devices; arguments as in `PulseResponse.write`."""
        self._add(self.response.write(w, devices, pulses))

    def _add(self, given: Given | None) -> None:
        if self.counts is not None and given is not None:
            add_pulses(self.counts, *given)


def build_programming(
    settings: DeviceProperties, devices: dict[str, Tensor], random: RandomSource
) -> Programming:
    """Return the programming of an array, given its per-device values from `draw_devices`."""
    W_min: Number = devices.get("W_min", settings.W_min)
    W_max: Number = devices.get("W_max", settings.W_max)
    if isinstance(settings.curve, StepModel):  # whoever writes knows the mean device only
        W_min, W_max = settings.W_min, settings.W_max
    return Programming(
        settings.pulse_rounding,
        W_min,
        W_max,
        settings.levels,
        devices.get("rate_factor"),
        build_response(settings, devices, random),
        random,
        devices.get("pulse_remainder"),
        devices.get(WRITTEN),
    )

"""Programming: how many pulses an update becomes, and what the devices make of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from mnist_exp.device.pulses import accumulate_pulses, curve_parameter, program, write_noise
from mnist_exp.device.quantization import Number, at, clip, level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.settings import DeviceSettings
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.write_counter import WRITTEN, add_pulses

Given = tuple[Tensor, Tensor]
OF_CURVE = "curve."  # prefix of a step model's numbers among the per-device values


class PulseResponse(Protocol):
    """What pulses do to the devices of an array; it holds each device's own numbers."""

    def respond(self, w: Tensor, pulses: Tensor) -> Given | None:
        """Apply pulses in place.

        Parameters
        ----------
        w : Tensor
            Conductances, float32 [devices].
        pulses : Tensor
            Pulses given to each device, positive up, [devices].

        Returns
        -------
        tuple of Tensor or None
            The devices that got whole pulses and how many each; None if pulses are fractional.
        """


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
        Where whole pulses are counted, int64 [devices].
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
        given = self.response.respond(w, pulses)
        if self.counts is not None and given is not None:
            add_pulses(self.counts, *given)


def build_programming(
    settings: DeviceSettings, devices: dict[str, Tensor], random: RandomSource
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


def build_response(
    settings: DeviceSettings, devices: dict[str, Tensor], random: RandomSource
) -> PulseResponse:
    """Return how an array answers pulses, given its per-device values from `draw_devices`."""
    W_min: Number = devices.get("W_min", settings.W_min)
    W_max: Number = devices.get("W_max", settings.W_max)
    if isinstance(settings.curve, StepModel):
        drawn = {n.removeprefix(OF_CURVE): v for n, v in devices.items() if n.startswith(OF_CURVE)}
        return StepResponse(settings.curve, drawn, settings, W_min, W_max, random)
    return CurveResponse(settings, W_min, W_max, random)


@dataclass
class CurveResponse:
    """Response along exponential conductance curves, see `mnist_exp.device.pulses`.

    Parameters
    ----------
    settings : DeviceSettings
        Labels of the curves, their number of pulses, and write noise.
    W_min, W_max : float or Tensor
        Bounds of the devices.
    random : RandomSource
        For write noise.
    """

    settings: DeviceSettings
    W_min: Number
    W_max: Number
    random: RandomSource

    def __post_init__(self) -> None:
        self.curves = (
            curve_parameter(self.settings.nonlinearity_ltp),
            curve_parameter(self.settings.nonlinearity_ltd),
        )

    def respond(self, w: Tensor, pulses: Tensor) -> Given | None:
        """Apply pulses in place; return as `PulseResponse` says.

        Of whole pulses few devices get any in a step; only these are computed.
        """
        if self.settings.pulse_rounding == "none":
            w.copy_(self._programmed(w, pulses, self.W_min, self.W_max))
            return None
        written = pulses.nonzero().squeeze(1)
        bounds = (at(self.W_min, written), at(self.W_max, written))
        before, pulses = w.index_select(0, written), pulses.index_select(0, written)
        w.index_copy_(0, written, self._programmed(before, pulses, *bounds))
        return written, pulses

    def _programmed(self, w: Tensor, pulses: Tensor, W_min: Number, W_max: Number) -> Tensor:
        after = program(w, pulses, *self.curves, W_min, W_max, self.settings.levels - 1)
        if (sigma := self.settings.write_noise) > 0:
            after += write_noise(pulses, self.random.normal(len(w)), sigma, W_max - W_min)
        return after


@dataclass
class StepResponse:
    """Response of a step model: pulses come one at a time, each with noise and within the bounds.

    Parameters
    ----------
    model : StepModel
        Size of a pulse.
    drawn : dict of Tensor
        The devices' own numbers and state, from ``model.draw``.
    settings : DeviceSettings
        Mean bounds and number of levels.
    W_min, W_max : float or Tensor
        Bounds of the devices.
    random : RandomSource
        For noise.
    """

    model: StepModel
    drawn: dict[str, Tensor]
    settings: DeviceSettings
    W_min: Number
    W_max: Number
    random: RandomSource

    def __post_init__(self) -> None:
        low, high = self.settings.W_min, self.settings.W_max
        self.D = float(level_distance(low, high, self.settings.levels))
        mean_bounds = {"mean_W_min": low, "mean_W_max": high}
        bounds = {"W_min": self.W_min, "W_max": self.W_max}
        self.numbers: dict[str, Number] = {**self.model.means, **mean_bounds, **bounds}
        self.numbers |= {n: drawn for n, drawn in self.drawn.items() if n != "write_offset"}

    def respond(self, w: Tensor, pulses: Tensor) -> Given:
        """Apply whole pulses in place; only the devices that get any are computed.

        A device gets at most ``levels - 1`` of them at a time.
        """
        pulsed = pulses.nonzero().squeeze(1)
        asked = pulses.index_select(0, pulsed)
        w.index_fill_(0, pulsed[asked.isnan()], math.nan)  # a training that diverged is seen to
        most = self.settings.levels - 1
        asked, order = asked.nan_to_num_(0.0).clamp_(-most, most).sort(descending=True)
        pulsed = pulsed.index_select(0, order)
        rising = int((asked > 0).sum())
        self._write(w, pulsed[:rising], asked[:rising], up=True)
        if self.model.potentiation_only:
            return pulsed[:rising], asked[:rising]
        falling = int((asked < 0).sum())
        self._write(w, pulsed.flip(0)[:falling], asked.flip(0)[:falling].neg(), up=False)
        return pulsed, asked

    def _write(self, w: Tensor, devices: Tensor, count: Tensor, up: bool) -> None:
        """Give pulses in one direction to some devices, most pulses first."""
        numbers = {name: at(number, devices) for name, number in self.numbers.items()}
        bounds = (numbers["W_min"], numbers["W_max"])
        written = w.index_select(0, devices)
        offset = self.drawn.get("write_offset")
        if offset is not None:  # pulses act on what lies below it
            written -= offset.index_select(0, devices)
        for still in _still_owed(count):
            if still < len(devices):
                numbers = {name: first(number, still) for name, number in numbers.items()}
            device = SimpleNamespace(**numbers)
            pulsed = written[:still]
            size = self.model.step(pulsed, up, device, self.random)
            pulsed.add_(size, alpha=self.D if up else -self.D)
            clip(pulsed, device.W_min, device.W_max, out=pulsed)
        if offset is not None:
            noise = self.random.normal(len(written)) * (self.model.write_noise * self.D)
            read = clip(written + noise, *bounds)
            offset.index_copy_(0, devices, read - written)
            written = read
        w.index_copy_(0, devices, written)


def _still_owed(count: Tensor) -> list[int]:
    """Return how many of the devices, sorted by pulses, are owed a first, second, ... pulse."""
    exactly = torch.bincount(count.long())  # [most pulses + 1]
    owed: list[int] = exactly.flip(0).cumsum(0).flip(0)[1:].tolist()
    return owed


def first(number: Number, count: int) -> Number:
    """Return the numbers of the first devices; one number is that of all."""
    return number[:count] if isinstance(number, Tensor) else number

"""What pulses do to the devices of an array: along curves, or by a step model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Protocol

import torch
from torch import Tensor

from mnist_exp.cpu.step_devices import StepDevices
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.pulses import curve_parameter, program, write_noise
from mnist_exp.device.quantization import Number, at, clip, level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.step_numbers import step_devices

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

    def write(self, w: Tensor, devices: Tensor, pulses: Tensor) -> Given:
        """Apply whole pulses to some devices in place; return those that got any.

        Parameters
        ----------
        w : Tensor
            Conductances of all, float32 [devices].
        devices : Tensor
            Indices, each at most once, int64 [K].
        pulses : Tensor
            Positive up, not 0, [K].
        """

    def in_numbers(self) -> StepDevices | None:
        """Return the devices as numbers for a kernel; None if only torch knows their response."""


def build_response(
    settings: DeviceProperties, devices: dict[str, Tensor], random: RandomSource
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
    settings : DeviceProperties
        Labels of the curves, their number of pulses, and write noise.
    W_min, W_max : float or Tensor
        Bounds of the devices.
    random : RandomSource
        For write noise.
    """

    settings: DeviceProperties
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
        return self.write(w, written, pulses.index_select(0, written))

    def write(self, w: Tensor, devices: Tensor, pulses: Tensor) -> Given:
        """Apply whole pulses to some devices in place; return them."""
        bounds = (at(self.W_min, devices), at(self.W_max, devices))
        after = self._programmed(w.index_select(0, devices), pulses, *bounds)
        w.index_copy_(0, devices, after)
        return devices, pulses

    def in_numbers(self) -> None:
        """Return None: there is no kernel for curves."""

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
    settings : DeviceProperties
        Mean bounds and number of levels.
    W_min, W_max : float or Tensor
        Bounds of the devices.
    random : RandomSource
        For noise.
    """

    model: StepModel
    drawn: dict[str, Tensor]
    settings: DeviceProperties
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
        self._in_numbers: StepDevices | None = None
        self._versions: list[int] | None = None  # of the numbers when these were made

    def in_numbers(self) -> StepDevices | None:
        """Return the devices as numbers for a kernel, made anew if a checkpoint was loaded."""
        tensors = [number for number in self.numbers.values() if isinstance(number, Tensor)]
        if self.random.device.type != "cpu" or any(tensor.is_inference() for tensor in tensors):
            return None
        versions = [tensor._version for tensor in tensors]
        if versions != self._versions:
            self._versions = versions
            most = self.settings.levels - 1
            self._in_numbers = step_devices(self.model, self.numbers, self.drawn, self.D, most)
        return self._in_numbers

    def respond(self, w: Tensor, pulses: Tensor) -> Given:
        """Apply whole pulses in place; only the devices that get any are computed."""
        pulsed = pulses.nonzero().squeeze(1)
        return self.write(w, pulsed, pulses.index_select(0, pulsed))

    def write(self, w: Tensor, devices: Tensor, pulses: Tensor) -> Given:
        """Apply whole pulses to some devices in place, at most ``levels - 1`` to each."""
        unknown = pulses.isnan()
        if unknown.any():  # a training that diverged is seen to
            w.index_fill_(0, devices[unknown], math.nan)
        most = self.settings.levels - 1
        pulses = pulses.clamp(-most, most)
        rising = (pulses > 0).nonzero().squeeze(1)
        up = devices.index_select(0, rising), pulses.index_select(0, rising)
        self._write(w, *up, up=True)
        if self.model.potentiation_only:
            return up
        falling = (pulses < 0).nonzero().squeeze(1)
        down = devices.index_select(0, falling), pulses.index_select(0, falling)
        self._write(w, down[0], -down[1], up=False)
        return devices, pulses

    def _write(self, w: Tensor, devices: Tensor, count: Tensor, up: bool) -> None:
        """Give pulses in one direction to some devices."""
        numbers = {name: at(number, devices) for name, number in self.numbers.items()}
        written = w.index_select(0, devices)
        offset = self.drawn.get("write_offset")
        if offset is not None:  # pulses act on what lies below it
            written -= offset.index_select(0, devices)
        numbers["share"] = self.model.share(up, SimpleNamespace(**numbers))
        device = SimpleNamespace(**numbers)
        self._pulse(written, up, device)
        more = (count > 1).nonzero().squeeze(1)
        if len(more):
            written.index_copy_(0, more, self._further(written, more, count, up, numbers))
        if offset is not None:
            noise = self.random.normal(len(written)) * (self.model.write_noise * self.D)
            read = clip(written + noise, device.W_min, device.W_max)
            offset.index_copy_(0, devices, read - written)
            written = read
        w.index_copy_(0, devices, written)

    def _further(
        self, w: Tensor, devices: Tensor, count: Tensor, up: bool, numbers: dict[str, Number]
    ) -> Tensor:
        """Return conductances of the devices that get a second pulse, after it and all others."""
        count, order = count.index_select(0, devices).sort(descending=True)
        devices = devices.index_select(0, order)
        numbers = {name: at(number, devices) for name, number in numbers.items()}
        written = w.index_select(0, devices)
        for still in _still_owed(count)[1:]:
            if still < len(devices):
                numbers = {name: first(number, still) for name, number in numbers.items()}
            self._pulse(written[:still], up, SimpleNamespace(**numbers))
        return torch.empty_like(written).index_copy_(0, order, written)

    def _pulse(self, w: Tensor, up: bool, device: SimpleNamespace) -> None:
        """Give one pulse to each of the devices, in place."""
        size = self.model.step(w, up, device, self.random)
        w.add_(size, alpha=self.D if up else -self.D)
        clip(w, device.W_min, device.W_max, out=w)


def _still_owed(count: Tensor) -> list[int]:
    """Return how many of the devices, sorted by pulses, are owed a first, second, ... pulse."""
    exactly = torch.bincount(count.long())  # [most pulses + 1]
    owed: list[int] = exactly.flip(0).cumsum(0).flip(0)[1:].tolist()
    return owed


def first(number: Number, count: int) -> Number:
    """Return the numbers of the first devices; one number is that of all."""
    return number[:count] if isinstance(number, Tensor) else number

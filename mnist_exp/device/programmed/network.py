"""A finished network on devices whose conductances change with time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Generator, Tensor, nn

from mnist_exp.device.programmed.arrays import Array
from mnist_exp.device.programmed.drift import Course
from mnist_exp.device.programmed.evaluation import DeviceEvaluation
from mnist_exp.device.reading.read_layer import ReadLayer

NO_READERS: Mapping[str, ReadLayer] = MappingProxyType({})


class ProgrammedNetwork:
    """Sets the weights of a network to what its devices hold at a time after programming.

    With ``compensation="global"`` the weights on devices of each layer are multiplied by one
    factor, ``sum |W(0)| / sum |W(t)|``: what the layer answers to each of its inputs in turn, added
    up, right after the programming and now (V. Joshi et al., Nature Communications 11:2473, 2020).

    Parameters
    ----------
    network : nn.Module
        With plain parameters, which are changed.
    arrays : sequence of Array
        The devices of its weights.
    settings : DeviceEvaluation
        What happens to them.
    new : bool
        Whether they are programmed, or were trained and hold what they hold.
    generator : torch.Generator
        Of all random numbers, on the device of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        arrays: Sequence[Array],
        settings: DeviceEvaluation,
        new: bool,
        generator: Generator,
    ) -> None:
        self.network, self.arrays, self.settings = network, arrays, settings
        self.new, self.generator = new, generator
        self._layers: dict[str, list[str]] = {
            array.name: [
                name
                for name, layer in network.named_modules()
                if vars(layer).get("_parameters", {}).get("weight")
                is network.get_parameter(array.name)
            ]
            for array in arrays
        }
        self._programmed: list[list[_Devices]] = []
        self._reference: dict[str, Tensor] = {}

    def layers_of(self, array: Array) -> list[str]:
        """Return the full names of all layers whose weight is the array's; none for a bias."""
        return self._layers[array.name]

    @torch.no_grad()
    def program(self) -> None:
        """Draw the devices: what they hold after programming, and how that will change."""
        self._programmed = [
            [_Devices(g, self.settings, self.new, self.generator) for g in array.targets]
            for array in self.arrays
        ]
        self._reference = self._answers(
            [
                array.weight(*(d.programmed for d in devices))
                for array, devices in zip(self.arrays, self._programmed, strict=True)
            ]
        )

    @torch.no_grad()
    def age(self, seconds: float, readers: Mapping[str, ReadLayer] = NO_READERS) -> None:
        """Set the network's weights to those that devices hold at a time after the programming.

        Parameters
        ----------
        seconds : float
            The time.
        readers : mapping
            Layers whose products are read, by name. They apply the factor to what was converted;
            in other layers it is part of the weights.
        """
        held = [
            [d.read(seconds, self.settings, self.generator) for d in devices]
            for devices in self._programmed
        ]
        weights = [array.weight(*g) for array, g in zip(self.arrays, held, strict=True)]
        factors = dict.fromkeys(self._reference, 1.0)
        if self.settings.compensation == "global":
            now = self._answers(weights)
            factors = {
                layer: float(answer / now[layer].clamp(min=1e-30))
                for layer, answer in self._reference.items()
            }
        for array, g, weight in zip(self.arrays, held, weights, strict=True):
            factor = factors[array.layer]
            if read := [readers[layer] for layer in self.layers_of(array) if layer in readers]:
                for reader in read:
                    reader.output_scale = factor
                    reader.pair = None if array.pair is None else array.pair(*g)
                factor = 1.0
            self.network.get_parameter(array.name).copy_(weight).mul_(factor)

    def _answers(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return ``sum |W|`` of each layer."""
        totals: dict[str, Tensor] = {}
        for array, weight in zip(self.arrays, weights, strict=True):
            total = weight.abs().sum()
            totals[array.layer] = totals.get(array.layer, torch.zeros_like(total)) + total
        return totals


class _Devices:
    """Devices of one array and their course."""

    def __init__(
        self, target: Tensor, settings: DeviceEvaluation, new: bool, generator: Generator
    ) -> None:
        write = settings.programming if new else None
        self.programmed = target if write is None else write(target, generator)
        self.stuck: tuple[Tensor, Tensor] | None = None
        if new and (settings.stuck_at_zero or settings.stuck_at_max):
            uniform = torch.empty_like(target).uniform_(generator=generator)
            stuck_at_max = uniform >= 1 - settings.stuck_at_max
            self.stuck = stuck_at_max | (uniform < settings.stuck_at_zero), stuck_at_max.to(target)
            self.programmed = torch.where(*self.stuck, self.programmed)
        self.course: Callable[[float], Tensor] | Course = lambda seconds: self.programmed
        if settings.drift is not None:
            self.course = settings.drift.start(self.programmed, target, generator)

    def read(self, seconds: float, settings: DeviceEvaluation, generator: Generator) -> Tensor:
        g = self.course(seconds)
        if self.stuck is not None:
            g = torch.where(*self.stuck, g)
        return (
            g if settings.noise is None else settings.noise(g, self.programmed, seconds, generator)
        )

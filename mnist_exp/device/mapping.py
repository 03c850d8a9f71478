"""Mappings from conductances to weights, as modules for ``torch.nn.utils.parametrize``.

``forward`` maps conductances to the weight, after applying ``read`` to each; ``right_inverse`` maps
a weight to conductances, which may lie beyond the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.quantization import quantize_nearest

Read = Callable[[Tensor], Tensor]


def read_exactly(conductance: Tensor) -> Tensor:
    """Return the stored conductance."""
    return conductance


def straight_through(quantize: Read) -> Read:
    """Return a read-out that quantizes forward and passes the gradient through unchanged."""

    def read(conductance: Tensor) -> Tensor:
        # the bracket is exactly 0, with derivative 1
        return quantize(conductance.detach()) + (conductance - conductance.detach())

    return read


class Mapping(nn.Module):
    """Base of the mappings; ``slopes`` are the weight's derivatives by each of its conductances.

    Every ``read`` has derivative 1.
    """

    slopes: tuple[float, ...]

    def __init__(self, read: Read, slopes: tuple[float, ...]) -> None:
        super().__init__()
        self.read, self.slopes, self.gain = read, slopes, slopes[0]

    def pair(self, *conductances: Tensor) -> tuple[Tensor, Tensor]:
        """Return G_plus and G_minus as read; the weight is ``gain * (G_plus - G_minus)``."""
        raise NotImplementedError


class Direct(Mapping):
    """The weight is the conductance."""

    def __init__(self, read: Read) -> None:
        super().__init__(read, slopes=(1.0,))

    def forward(self, conductance: Tensor) -> Tensor:
        """Return the weight."""
        return self.read(conductance)

    def pair(self, *conductances: Tensor) -> tuple[Tensor, Tensor]:
        """Return the conductance as that of one of two devices."""
        (read,) = map(self.read, conductances)
        return read.clamp(min=0), (-read).clamp(min=0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the conductance of a weight."""
        return weight


class ReferenceColumn(Mapping):
    """``w = gain * (G - reference)``: one device per weight, one fixed reference."""

    def __init__(self, read: Read, gain: float, reference: float) -> None:
        super().__init__(read, slopes=(gain,))
        self.reference = reference

    def forward(self, conductance: Tensor) -> Tensor:
        """Return the weight."""
        return (self.read(conductance) - self.reference) * self.gain

    def pair(self, *conductances: Tensor) -> tuple[Tensor, Tensor]:
        """Return the conductance and the reference."""
        (read,) = map(self.read, conductances)
        return read, torch.full_like(read, self.reference)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the conductance of a weight."""
        return self.reference + weight / self.gain


class DifferentialPair(Mapping):
    """``w = gain * (G_plus - G_minus)``: two devices per weight."""

    def __init__(self, read: Read, gain: float, middle: float) -> None:
        super().__init__(read, slopes=(gain, -gain))
        self.middle = middle

    def forward(self, G_plus: Tensor, G_minus: Tensor) -> Tensor:
        """Return the weight."""
        difference = self.read(G_plus) - self.read(G_minus)
        return difference if self.gain == 1 else difference * self.gain  # saves two passes

    def pair(self, *conductances: Tensor) -> tuple[Tensor, Tensor]:
        """Return both conductances."""
        G_plus, G_minus = map(self.read, conductances)
        return G_plus, G_minus

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pair, spread evenly around the middle of the range."""
        half = weight / (2 * self.gain)
        return self.middle + half, self.middle - half


def mapping_of(settings: DeviceProperties) -> Callable[[], Mapping] | None:
    """Return what makes the module from conductances to a weight; None if they are equal."""
    W_min, W_max = settings.W_min, settings.W_max
    read: Read = read_exactly
    if settings.quantize and settings.rounding == "straight_through":
        on_grid = partial(quantize_nearest, W_min=W_min, W_max=W_max, levels=settings.levels)
        read = straight_through(on_grid)
    signed = {"differential": DifferentialPair, "reference": ReferenceColumn}
    if settings.mapping in signed:
        return partial(signed[settings.mapping], read, settings.gain, (W_min + W_max) / 2)
    return None if read is read_exactly else partial(Direct, read)

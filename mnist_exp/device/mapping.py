"""From conductances to weights: modules for ``torch.nn.utils.parametrize``.

Each has ``forward`` (conductances to weight) and ``right_inverse`` (weight to conductances that
may lie beyond the bounds). ``read`` is applied to each conductance first.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Read = Callable[[Tensor], Tensor]


def read_exactly(conductance: Tensor) -> Tensor:
    """Return the conductance as it is stored."""
    return conductance


def straight_through(quantize: Read) -> Read:
    """Return a read-out that is quantized but hands the gradient through unchanged."""

    def read(conductance: Tensor) -> Tensor:
        # the bracket is exactly 0, with derivative 1
        return quantize(conductance.detach()) + (conductance - conductance.detach())

    return read


class Mapping(nn.Module):
    """What a weight is to the conductances that hold it.

    ``slopes`` are its derivatives by each of them. (A read-out hands gradients through.)
    """

    slopes: tuple[float, ...]

    def __init__(self, read: Read, slopes: tuple[float, ...]) -> None:
        super().__init__()
        self.read, self.slopes = read, slopes


class Direct(Mapping):
    """The weight is the conductance."""

    def __init__(self, read: Read) -> None:
        super().__init__(read, slopes=(1.0,))

    def forward(self, conductance: Tensor) -> Tensor:
        """Return the weight."""
        return self.read(conductance)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the conductance of a weight."""
        return weight


class ReferenceColumn(Mapping):
    """``w = gain * (G - reference)``: one device a weight, and a column of fixed ones."""

    def __init__(self, read: Read, gain: float, reference: float) -> None:
        super().__init__(read, slopes=(gain,))
        self.gain, self.reference = gain, reference

    def forward(self, conductance: Tensor) -> Tensor:
        """Return the weight."""
        return (self.read(conductance) - self.reference) * self.gain

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the conductance of a weight."""
        return self.reference + weight / self.gain


class DifferentialPair(Mapping):
    """``w = gain * (G_plus - G_minus)``: two devices a weight, as arrays hold signed weights."""

    def __init__(self, read: Read, gain: float, middle: float) -> None:
        super().__init__(read, slopes=(gain, -gain))
        self.gain, self.middle = gain, middle

    def forward(self, G_plus: Tensor, G_minus: Tensor) -> Tensor:
        """Return the weight."""
        difference = self.read(G_plus) - self.read(G_minus)
        return difference if self.gain == 1 else difference * self.gain  # spares two passes

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pair, spread evenly around the middle of the range."""
        half = weight / (2 * self.gain)
        return self.middle + half, self.middle - half

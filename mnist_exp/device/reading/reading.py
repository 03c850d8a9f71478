"""Readings: how a product of weights and inputs comes out of an array of devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.cpu.array_reading import normals
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.random_source import RandomSource
from mnist_exp.schema.rule import Rule, mistakes, refuse

# Of an array: conductances G_plus, G_minus [out, in] as shares of a fully-on device, and a factor;
# the weights are factor * (G_plus - G_minus).
Pair = tuple[Tensor, Tensor, float | Tensor]


@dataclass(frozen=True)
class Array:
    """The devices of one product, as a reading finds them.

    Attributes
    ----------
    random : RandomSource
        For everything random.
    weight_range : float or Tensor []
        Largest weight that the devices can hold; of an array without bounds, its largest weight.
    training : bool
        Whether the layer is in training mode.
    pair : callable
        Returns the conductances.
    """

    random: RandomSource
    weight_range: float | Tensor
    training: bool
    pair: Callable[[], Pair]

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal numbers of a tensor's shape, dtype and device."""
        count, random = like.numel(), self.random
        found = normals(count, random.seed) if random.device.type == "cpu" else None
        return (random.normal(count) if found is None else found).view(like.shape).to(like)


@dataclass(kw_only=True)
class Reading(ABC):
    """Base of the readings; they compute without gradients, which pass straight through.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    rules: ClassVar[Mapping[str, Rule]] = {}

    def __post_init__(self) -> None:
        refuse(mistakes(self.rules, vars(self), "constraint.read"))

    def weights(self, weights: Tensor, array: Array) -> Tensor:
        """Return the weights [out, in] as they act on a batch; by default those stored.

        The gradient of the inputs is that of the product with them.
        """
        return weights

    @abstractmethod
    def read(self, inputs: Tensor, weights: Tensor, array: Array) -> Tensor:
        """Return the product of inputs [..., in] and weights [out, in] as read: [..., out].

        Parameters
        ----------
        inputs : Tensor
            float32; a convolution's patches are in the second dimension from the right.
        weights : Tensor
            What `weights` returned.
        array : Array
            The devices.
        """

    def misfits(self, settings: DeviceProperties) -> Iterator[str]:
        """Yield a message if such devices cannot be read this way."""
        yield from ()

    def conversions(self, inputs: int, outputs: int) -> tuple[int, int]:
        """Return the conversions of a read of an array, forward and backward: of every line."""
        return inputs + outputs, inputs + outputs

    @property
    def is_exact(self) -> bool:
        """Whether `read` is the plain product, so that only `weights` make a difference."""
        return False

    @property
    def transposed(self) -> Reading | None:
        """How the transposed array is read for the inputs' gradient; None: exactly."""
        return None


def largest(weights: Tensor) -> float | Tensor:
    """Return the largest absolute value, or 1 if there is none above 0; off the CPU as [].

    The CPU would take longer for operations on one number than for finding it.
    """
    if not weights.numel():
        return 1.0
    low, high = torch.aminmax(weights.detach())
    if weights.device.type == "cpu":
        number = max(-low.item(), high.item())
        return number if number > 0 else 1.0
    found = torch.maximum(-low, high)
    return torch.where(found > 0, found, 1.0)

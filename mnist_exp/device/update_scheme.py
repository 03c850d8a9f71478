"""Update schemes: what of an optimizer's update is written to the devices that hold the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from mnist_exp.device.effect import StepEffect
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.read_counts import Reads
from mnist_exp.schema.rule import Rule, mistakes, refuse


@dataclass
class Started:
    """A scheme at work on the devices of a network.

    Attributes
    ----------
    state : dict of Tensor
        What checkpoints hold of it.
    first : StepEffect
        Turns the values asked for by the optimizer into those asked of the devices.
    last : sequence of StepEffect
        After everything that happens to the devices in a step.
    transferred : callable or None
        Returns what the scheme has read of arrays so far, besides the network's passes.
    """

    state: dict[str, Tensor]
    first: StepEffect
    last: Sequence[StepEffect] = field(default_factory=tuple)
    transferred: Callable[[], Reads] | None = None


@dataclass(kw_only=True)
class UpdateScheme(ABC):
    """Base of the update schemes.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    rules: ClassVar[Mapping[str, Rule]] = {}

    def __post_init__(self) -> None:
        refuse(mistakes(self.rules, vars(self), "constraint.update"))

    @property
    @abstractmethod
    def keeps_updates(self) -> bool:
        """Whether what is not written at once is kept for later."""

    @abstractmethod
    def start(
        self, settings: DeviceProperties, count: int, lines: Sequence[Tensor], random: RandomSource
    ) -> Started:
        """Set the scheme up for the devices of a network.

        Parameters
        ----------
        settings : DeviceProperties
            Of the devices.
        count : int
            Number of devices.
        lines : sequence of Tensor
            Of each array the devices on each of its input lines, int64 [lines, devices of a line].
        random : RandomSource
            For the scheme's own devices and choices.
        """

    def misfits(self, settings: DeviceProperties) -> Iterator[str]:
        """Yield a message if the scheme cannot work with such devices."""
        yield from ()

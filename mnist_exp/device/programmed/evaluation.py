"""Settings of devices after training and of their test, checked together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from mnist_exp.device.programmed.drift import Drift
from mnist_exp.device.reading.reading import Reading
from mnist_exp.schema.durations import seconds_of
from mnist_exp.schema.programmed_parts import DEVICE_EVALUATION, EXACT
from mnist_exp.schema.rule import mistakes, refuse

Programming = Callable[[Tensor, Generator], Tensor]
Noise = Callable[[Tensor, Tensor, float, Generator], Tensor]


@dataclass(kw_only=True)
class DeviceEvaluation:
    """What happens to the devices of a finished network, and when it is tested.

    The defaults are ideal devices, as in ``conf/evaluation/ideal.yaml``.

    Parameters
    ----------
    times : sequence of str
        When to test, after the end of the programming: increasing, with a unit each.
    repetitions : int
        Number of programmings, each tested at all times; of a network that was trained on its
        devices, of draws of drift and noise.
    seed : int
        Of all random numbers.
    program : bool or None
        Whether the weights are programmed once, on a pair of devices each; False: the devices that
        the network was trained on are kept. None: programmed, unless the constraint's conductances
        are some of physical devices.
    programming : callable or None
        Errors of the programming, such as `ProgrammingError`: from targets and a generator to
        conductances. None: none.
    drift : Drift or None
        How conductances change with time; None: not at all.
    noise : callable or None
        Noise of reading, such as `ReadNoise`; None: none.
    read : Reading, "exact" or None
        How products of the weights are read, such as `ArrayReading`; None: as in training.
    stuck_at_zero, stuck_at_max : float
        Shares of devices that stay at 0 and at ``g_max`` whatever is programmed; of newly
        programmed ones.
    compensation : {"none", "global"}
        "global": one factor a layer makes up for the mean drift; see
        `mnist_exp.device.programmed.network.ProgrammedNetwork`.
    reestimate_batch_norm : bool
        Whether BatchNorm's statistics are taken anew at each time, from training images.
    batch_norm_images : int
        Their number, >= 2.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    times: Sequence[str] = ("1s", "1h", "1d", "1mo", "1y")
    repetitions: int = 10
    seed: int = 0
    program: bool | None = None
    programming: Programming | None = None
    drift: Drift | None = None
    noise: Noise | None = None
    read: Reading | str | None = None
    stuck_at_zero: float = 0.0
    stuck_at_max: float = 0.0
    compensation: str = "none"
    reestimate_batch_norm: bool = False
    batch_norm_images: int = 1000

    def __post_init__(self) -> None:
        refuse(mistakes(DEVICE_EVALUATION, vars(self), "evaluation") or self._contradictions())

    @property
    def seconds(self) -> list[float]:
        """The times in seconds."""
        return [seconds_of(time) for time in self.times]

    def reading(self, trained: Reading | None) -> Reading | None:
        """Return how products are read, those of the training as given; None: exactly."""
        if isinstance(self.read, str):
            return None
        return self.read or trained

    def _contradictions(self) -> Iterator[str]:
        if self.drift is not None and not hasattr(self.drift, "start"):
            yield (
                f"evaluation.drift: {type(self.drift).__name__} has no start(programmed, target, "
                "generator); derive it from mnist_exp.device.programmed.Drift."
            )
        for name in ("programming", "noise"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                kind = type(getattr(self, name)).__name__
                yield f"evaluation.{name}: a {kind} cannot be called."
        if not (self.read in (None, EXACT) or isinstance(self.read, Reading)):
            yield (
                f"evaluation.read: a {type(self.read).__name__} is not a reading; derive it from "
                "mnist_exp.device.Reading."
            )
        if self.stuck_at_zero + self.stuck_at_max > 1:
            yield (
                f"evaluation.stuck_at_zero={self.stuck_at_zero}, stuck_at_max={self.stuck_at_max}: "
                "shares of the devices, together at most 1."
            )

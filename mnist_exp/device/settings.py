"""Settings of a device constraint, checked together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnist_exp.device.effect import Effect, place_of, wrong_effects
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.reading.reading import Reading
from mnist_exp.device.update_scheme import UpdateScheme


@dataclass(kw_only=True)
class DeviceSettings(DeviceProperties):
    """The devices that hold the weights, and how these are written and read.

    Parameters
    ----------
    **properties
        Parameters of `DeviceProperties`.
    update : {"direct"} or UpdateScheme
        What of an optimizer's update is written to the devices: all of it, or what a scheme makes
        of it.
    read : Reading or None
        How products of the weights are read in training and evaluation; None: exactly.
    apply_to : {"batch", "sample"}
        Whether a step writes the batch's update at once, or those of its samples one after another.
    diagnose_every : int
        Optimizer steps between two samples of the diagnostics.
    effects : sequence of Effect
        Effects of your own, in the order they act; each states its place in the step.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    update: str | UpdateScheme = "direct"
    read: Reading | None = None
    apply_to: str = "batch"
    diagnose_every: int = 50
    effects: Sequence[Effect] = ()

    @property
    def keeps_every_update(self) -> bool:
        """Whether accumulators keep what rounding, to pulses or to levels, takes off an update.

        A scheme's own state counts as one, unless its devices round to the nearest.
        """
        roundings = [self.pulse_rounding, self.rounding if self.rounds_on_write else "none"]
        if isinstance(self.update, UpdateScheme) and self.update.keeps_updates:
            return "nearest" not in roundings
        return "accumulate" in roundings and {"nearest", "stochastic"}.isdisjoint(roundings)

    def _contradictions(self) -> Iterator[str]:
        """Yield a message for each part that is none, and for values that exclude each other."""
        yield from wrong_effects(self.effects)
        yield from super()._contradictions()
        if isinstance(self.update, UpdateScheme):
            yield from self.update.misfits(self)
        elif self.update != "direct":
            yield (
                f"constraint.update={self.update}: allowed is direct, or an object of a class "
                "derived from mnist_exp.device.UpdateScheme, such as TikiTaka()."
            )
        if isinstance(self.read, Reading):
            yield from self.read.misfits(self)
        elif self.read is not None:
            yield (
                f"constraint.read={self.read}: allowed is null, or an object of a class derived "
                "from mnist_exp.device.Reading, such as ArrayReading()."
            )
        yield from self._misfits_of_samples()

    def _misfits_of_samples(self) -> Iterator[str]:
        if self.apply_to == "batch":
            return
        key = "constraint.apply_to=sample"
        if self.pulse_rounding not in ("nearest", "stochastic"):
            yield (
                f"{key}: a sample's update is written in whole pulses, without an accumulator, and "
                f"constraint.pulse_rounding={self.pulse_rounding} is none of those; set it to "
                "stochastic or nearest."
            )
        if isinstance(self.update, UpdateScheme):
            yield (
                f"{key}: constraint.update={type(self.update).__name__} works on a batch's update; "
                "set constraint.update=direct or constraint.apply_to=batch."
            )
        if early := [type(e).__name__ for e in self.effects if place_of(e) == "before_update"]:
            yield (
                f"{key}: {early[0]} (constraint.effects) changes a batch's update, as its place is "
                "before_update; set another place or constraint.apply_to=batch."
            )

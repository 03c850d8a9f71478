"""Settings of a device constraint, checked together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnist_exp.device.cost import Cost
from mnist_exp.device.effect import Effect, place_of, wrong_effects
from mnist_exp.device.reading.reading import Reading
from mnist_exp.device.retention import retention_of_tau
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.update_scheme import UpdateScheme
from mnist_exp.schema.device_parts import DEVICE
from mnist_exp.schema.rule import mistakes, refuse

CROSSING = 2.33  # standard deviations beyond which 1 % of a normal distribution lie


@dataclass(kw_only=True)
class DeviceSettings:
    """Limits and flaws of the devices that hold the weights.

    Conductances are in arbitrary units. The defaults are an ideal device, as in
    ``conf/constraint/_ideal.yaml``.

    Parameters
    ----------
    mapping : {"direct", "reference", "differential"}
        How a weight is stored: as one conductance; as ``gain * (G - (W_min + W_max) / 2)``, one
        conductance against a reference column; or as ``gain * (G_plus - G_minus)``, a pair.
    gain : float
        Weight units per unit of conductance, > 0; not used by "direct".
    W_min, W_max : float
        Bounds of a conductance, ``W_min < W_max``.
    bias : {"constrained", "free"}
        Whether devices also hold the biases.
    clip : bool
        Keep conductances within their bounds.
    quantize : bool
        Keep conductances on ``levels`` evenly spaced values, which includes clipping.
    levels : int
        Number of conductance states, >= 2.
    rounding : {"nearest", "stochastic", "accumulate", "straight_through"}
        How values between two levels are rounded. "accumulate" keeps the remainder digitally;
        "straight_through" keeps float master weights and rounds them when read.
    retain : bool
        Let conductances drift toward ``retention_target``.
    retention : float or None
        Share of the distance to the target lost per optimizer step, in [0, 1].
    retention_tau : float or None
        The same as a time constant in optimizer steps, > 0: ``retention = 1 - exp(-1 / tau)``.
    retention_target : float or None
        Conductance at which the drift ends; None: ``W_min``.
    pulse_rounding : {"none", "nearest", "stochastic", "accumulate"}
        How updates are rounded to whole pulses; ``levels - 1`` pulses span the range. "accumulate"
        keeps the rest digitally.
    update : {"direct"} or UpdateScheme
        What of an optimizer's update is written to the devices: all of it, or what a scheme makes
        of it.
    read : Reading or None
        How products of the weights are read in training and evaluation; None: exactly.
    apply_to : {"batch", "sample"}
        Whether a step writes the batch's update at once, or those of its samples one after another.
    curve : {"exponential"} or StepModel
        How conductances respond to pulses: along exponential curves, or by a step model, whose
        devices always stay within their bounds.
    nonlinearity_ltp, nonlinearity_ltd : float
        Labels in [-9, 9] of the exponential curves of potentiation and depression; 0: linear.
    write_noise : float
        Of the exponential curves: standard deviation of one pulse, cycle to cycle, as a share of
        the range.
    rate_variation : float
        Standard deviation, device to device, of the factor on updates, whose mean is 1.
    bound_variation : float or sequence of float
        Standard deviation, device to device, of the bounds as a share of the range: of both, or
        one each of ``W_min`` and ``W_max``.
    stuck_at_min, stuck_at_max : float
        Shares of devices that never leave ``W_min`` or ``W_max``.
    cost : Cost or None
        Count write pulses and reads; None: nothing is counted.
    diagnose_every : int
        Optimizer steps between two samples of the diagnostics.
    effects : sequence of Effect
        Effects of your own, in the order they act; each states its place in the step.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    mapping: str = "direct"
    gain: float = 1.0
    W_min: float = -1.0
    W_max: float = 1.0
    bias: str = "free"
    clip: bool = True
    quantize: bool = False
    levels: int = 100
    rounding: str = "stochastic"
    retain: bool = False
    retention: float | None = None
    retention_tau: float | None = None
    retention_target: float | None = None
    pulse_rounding: str = "none"
    update: str | UpdateScheme = "direct"
    read: Reading | None = None
    apply_to: str = "batch"
    curve: str | StepModel = "exponential"
    nonlinearity_ltp: float = 0.0
    nonlinearity_ltd: float = 0.0
    write_noise: float = 0.0
    rate_variation: float = 0.0
    bound_variation: float | Sequence[float] = 0.0
    stuck_at_min: float = 0.0
    stuck_at_max: float = 0.0
    cost: Cost | None = None
    diagnose_every: int = 50
    effects: Sequence[Effect] = ()

    def __post_init__(self) -> None:
        refuse(mistakes(DEVICE, vars(self), "constraint") or self._contradictions())

    @property
    def retention_rate(self) -> float:
        """Share of the distance to the target lost per step, from retention or retention_tau."""
        if self.retention_tau is not None:
            return retention_of_tau(self.retention_tau)
        return self.retention or 0.0

    @property
    def resting(self) -> float:
        """Conductance at which the drift ends."""
        return self.W_min if self.retention_target is None else self.retention_target

    @property
    def weight_range(self) -> float | None:
        """Largest weight that devices hold; None without bounds."""
        if not (self.clip or self.quantize or isinstance(self.curve, StepModel)):
            return None
        if self.mapping == "direct":
            return max(abs(self.W_min), abs(self.W_max))
        width = self.W_max - self.W_min
        return self.gain * (width if self.mapping == "differential" else width / 2)

    @property
    def rounds_on_write(self) -> bool:
        """Whether the stored values themselves are rounded."""
        return self.quantize and self.rounding != "straight_through"

    @property
    def bound_variations(self) -> tuple[float, float]:
        """Spread of ``W_min`` and of ``W_max``, as shares of the range."""
        both = self.bound_variation
        of_min, of_max = both if isinstance(both, Sequence) else (both, both)
        return of_min, of_max

    @property
    def responds_exactly(self) -> bool:
        """Whether devices take every update as asked for."""
        flaws = (
            self.nonlinearity_ltp,
            self.nonlinearity_ltd,
            self.write_noise,
            self.rate_variation,
        )
        return self.pulse_rounding == "none" and not any(flaws)

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
        """Yield a message for each effect that is none, and for values that exclude each other."""
        yield from wrong_effects(self.effects)
        if self.W_min >= self.W_max:
            yield (
                f"constraint.W_min={self.W_min}: must be below W_max={self.W_max}; swap or spread "
                "them."
            )
        if self.retention is not None and self.retention_tau is not None:
            yield (
                f"constraint.retention={self.retention} and retention_tau={self.retention_tau} "
                "state the same thing twice: set one of them to null."
            )
        if self.retain and self.retention is None and self.retention_tau is None:
            yield (
                "constraint.retain=true: needs retention or retention_tau; set one, or "
                "retain=false."
            )
        if any(self.bound_variations) and self.quantize and self.rounding == "straight_through":
            yield (
                f"constraint.bound_variation={self.bound_variation}: rounding=straight_through "
                "reads all devices on one grid of levels; set bound_variation=0 or another "
                "rounding."
            )
        if CROSSING * math.hypot(*self.bound_variations) > 1:
            yield (
                f"constraint.bound_variation={self.bound_variation}: so wide a spread makes the "
                "bounds of more than 1 % of the devices cross; allowed is up to "
                f"{1 / CROSSING:.2g} for one bound and {1 / CROSSING / math.sqrt(2):.2g} for both."
            )
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
        if isinstance(self.curve, StepModel):
            yield from self._misfits_of_curve(self.curve)
        elif self.curve != "exponential":
            yield (
                f"constraint.curve={self.curve}: allowed is exponential, or an object of a class "
                "derived from mnist_exp.device.StepModel, such as LinearStep()."
            )
        if self.stuck_at_min + self.stuck_at_max > 1:
            yield (
                f"constraint.stuck_at_min={self.stuck_at_min}, stuck_at_max={self.stuck_at_max}: "
                "shares of the devices, together at most 1."
            )

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

    def _misfits_of_curve(self, curve: StepModel) -> Iterator[str]:
        if self.W_min < self.W_max:
            yield from curve.misfits(self.W_min, self.W_max)
        if self.pulse_rounding == "none":
            yield (
                "constraint.pulse_rounding=none: a step model takes whole pulses; set it to "
                "nearest, stochastic or accumulate."
            )
        for name in ("nonlinearity_ltp", "nonlinearity_ltd", "write_noise"):
            if getattr(self, name):
                yield (
                    f"constraint.{name}={getattr(self, name)}: is of curve=exponential; a step "
                    "model has its own numbers, so set it to 0."
                )

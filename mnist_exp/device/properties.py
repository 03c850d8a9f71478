"""Properties of the devices that hold a network's weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnist_exp.device.cost import Cost
from mnist_exp.device.retention import retention_of_tau
from mnist_exp.device.step_model import StepModel
from mnist_exp.schema.device_parts import DEVICE
from mnist_exp.schema.rule import mistakes, refuse

CROSSING = 2.33  # standard deviations beyond which 1 % of a normal distribution lie


@dataclass(kw_only=True)
class DeviceProperties:
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
    curve: str | StepModel = "exponential"
    nonlinearity_ltp: float = 0.0
    nonlinearity_ltd: float = 0.0
    write_noise: float = 0.0
    rate_variation: float = 0.0
    bound_variation: float | Sequence[float] = 0.0
    stuck_at_min: float = 0.0
    stuck_at_max: float = 0.0
    cost: Cost | None = None

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

    def _contradictions(self) -> Iterator[str]:
        """Yield a message for values that exclude each other."""
        if self.W_min >= self.W_max:
            yield (
                f"constraint.W_min={self.W_min}: must be below W_max={self.W_max}; swap or spread "
                "them."
            )
        if self.stuck_at_min + self.stuck_at_max > 1:
            yield (
                f"constraint.stuck_at_min={self.stuck_at_min}, stuck_at_max={self.stuck_at_max}: "
                "shares of the devices, together at most 1."
            )
        yield from self._misfits_of_retention()
        yield from self._misfits_of_spread()
        if isinstance(self.curve, StepModel):
            yield from self._misfits_of_curve(self.curve)
        elif self.curve != "exponential":
            yield (
                f"constraint.curve={self.curve}: allowed is exponential, or an object of a class "
                "derived from mnist_exp.device.StepModel, such as LinearStep()."
            )

    def _misfits_of_retention(self) -> Iterator[str]:
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

    def _misfits_of_spread(self) -> Iterator[str]:
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

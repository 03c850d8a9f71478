"""What a device can and cannot do: the settings of a constraint, checked together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

from mnist_exp.arguments import wrong_kinds
from mnist_exp.device.pulses import LARGEST_LABEL
from mnist_exp.device.retention import retention_of_tau
from mnist_exp.errors import UserError

MAPPINGS = ("direct", "reference", "differential")
ROUNDINGS = ("nearest", "stochastic", "accumulate", "straight_through")
PULSE_ROUNDINGS = ("none", "nearest", "stochastic")
BIASES = ("constrained", "free")
STUCK_SHARES = ("stuck_at_min", "stuck_at_max")
DEVIATIONS = ("write_noise", "rate_variation", "bound_variation")


@dataclass(kw_only=True)
class DeviceSettings:
    """The limits and flaws of the devices that hold the weights.

    Conductances are in arbitrary units. The defaults live in ``conf/constraint``.

    Parameters
    ----------
    mapping : {"direct", "reference", "differential"}
        How a weight is stored: as one conductance; as ``gain * (G - (W_min + W_max) / 2)``, one
        conductance against a reference column; or as ``gain * (G_plus - G_minus)``, a pair.
    gain : float
        Weight units for one unit of conductance, > 0; of no influence with "direct".
    W_min, W_max : float
        Bounds of a conductance, ``W_min < W_max``.
    bias : {"constrained", "free"}
        Whether the biases of the layers are held by devices as well.
    clip : bool
        Keep conductances within their bounds.
    quantize : bool
        Keep conductances on ``levels`` evenly spaced values; this keeps the bounds as well.
    levels : int
        Number of conductance states, >= 2.
    rounding : {"nearest", "stochastic", "accumulate", "straight_through"}
        How values between two levels are rounded. "accumulate" keeps the remainder digitally,
        "straight_through" keeps float master weights and reads them rounded.
    retain : bool
        Let conductances drift toward ``retention_target``.
    retention : float or None
        Share of the distance lost in an optimizer step, in [0, 1].
    retention_tau : float or None
        The same as a time constant in optimizer steps, > 0: ``retention = 1 - exp(-1 / tau)``.
    retention_target : float or None
        Where the drift ends; None: ``W_min``.
    pulse_rounding : {"none", "nearest", "stochastic"}
        Whether updates are cut to whole pulses, of which ``levels - 1`` span the range.
    nonlinearity_ltp, nonlinearity_ltd : float
        Labels in [-9, 9] of the conductance curves of potentiation and depression; 0: linear.
    write_noise : float
        Standard deviation of one pulse, cycle to cycle, as a share of the range.
    rate_variation : float
        Standard deviation, device to device, of the factor on updates, whose mean is 1.
    bound_variation : float
        Standard deviation, device to device, of either bound as a share of the range.
    stuck_at_min, stuck_at_max : float
        Shares of devices that never leave ``W_min`` or ``W_max``.
    diagnose_every : int
        Optimizer steps between two samples of the diagnostics.

    Raises
    ------
    UserError
        With all mistakes at once.
    """

    mapping: str
    gain: float
    W_min: float
    W_max: float
    bias: str
    clip: bool
    quantize: bool
    levels: int
    rounding: str
    retain: bool
    retention: float | None
    retention_tau: float | None
    retention_target: float | None
    pulse_rounding: str
    nonlinearity_ltp: float
    nonlinearity_ltd: float
    write_noise: float
    rate_variation: float
    bound_variation: float
    stuck_at_min: float
    stuck_at_max: float
    diagnose_every: int

    def __post_init__(self) -> None:
        # a wrong kind first: what is no number has no range
        mistakes = list(wrong_kinds(DeviceSettings, vars(self))) or [
            *self._wrong_choices(),
            *self._wrong_ranges(),
            *self._wrong_retention(),
            *self._wrong_flaws(),
        ]
        if mistakes:
            raise UserError("\n".join(f"constraint.{mistake}" for mistake in mistakes))

    @property
    def retention_rate(self) -> float:
        """Share of the distance to the target lost in a step, from either way to state it."""
        if self.retention_tau is not None:
            return retention_of_tau(self.retention_tau)
        return self.retention or 0.0

    @property
    def resting(self) -> float:
        """Conductance at which the drift ends."""
        return self.W_min if self.retention_target is None else self.retention_target

    @property
    def rounds_on_write(self) -> bool:
        """Whether the stored values themselves are rounded."""
        return self.quantize and self.rounding != "straight_through"

    def _wrong_choices(self) -> Iterator[str]:
        choices = {
            "mapping": MAPPINGS,
            "bias": BIASES,
            "rounding": ROUNDINGS,
            "pulse_rounding": PULSE_ROUNDINGS,
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                yield f"{name}={value}: allowed are {', '.join(allowed)}."

    def _wrong_ranges(self) -> Iterator[str]:
        if not (math.isfinite(self.W_min) and math.isfinite(self.W_max)):
            yield f"W_min={self.W_min}, W_max={self.W_max}: both must be finite numbers."
        elif self.W_min >= self.W_max:
            yield f"W_min={self.W_min}: must be below W_max={self.W_max}; swap or spread them."
        if not 0 < self.gain < math.inf:
            yield f"gain={self.gain}: must be above 0; 1 is one weight unit a conductance unit."
        if not _is_whole(self.levels, 2):
            yield f"levels={self.levels}: a device needs a whole number of at least 2 states."
        if not _is_whole(self.diagnose_every, 1):
            yield f"diagnose_every={self.diagnose_every}: must be at least 1 optimizer step."

    def _wrong_retention(self) -> Iterator[str]:
        if self.retention is not None and not 0 <= self.retention <= 1:
            yield f"retention={self.retention}: a share of the distance, allowed is 0 to 1."
        if self.retention_tau is not None and not self.retention_tau > 0:
            yield f"retention_tau={self.retention_tau}: a time in steps, must be above 0."
        given = [v for v in (self.retention, self.retention_tau) if v is not None]
        if len(given) == 2:
            yield (
                f"retention={self.retention} and retention_tau={self.retention_tau} state the "
                "same thing twice: set one of them to null."
            )
        if self.retain and not given:
            yield "retain=true: needs retention or retention_tau; set one, or retain=false."
        target = self.retention_target
        if target is not None and not math.isfinite(target):
            yield f"retention_target={target}: must be a finite conductance, or null for W_min."

    def _wrong_flaws(self) -> Iterator[str]:
        for name in ("nonlinearity_ltp", "nonlinearity_ltd"):
            label = getattr(self, name)
            if not abs(label) <= LARGEST_LABEL:
                yield f"{name}={label}: labels go from -{LARGEST_LABEL:g} to {LARGEST_LABEL:g}."
        for name in DEVIATIONS:
            deviation = getattr(self, name)
            if not 0 <= deviation < math.inf:
                yield f"{name}={deviation}: a standard deviation, must be 0 or above."
        if self.bound_variation > 0 and self.quantize and self.rounding == "straight_through":
            yield (
                f"bound_variation={self.bound_variation}: rounding=straight_through reads all "
                "devices on one grid of levels; set bound_variation=0 or another rounding."
            )
        shares = [getattr(self, name) for name in STUCK_SHARES]
        if not (all(0 <= share <= 1 for share in shares) and sum(shares) <= 1):
            yield (
                f"stuck_at_min={shares[0]}, stuck_at_max={shares[1]}: shares of the devices, "
                "each from 0 to 1 and together at most 1."
            )


def _is_whole(value: object, lowest: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= lowest

"""What a device can and cannot do: the settings of a constraint, checked together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mnist_exp.device.retention import retention_of_tau
from mnist_exp.schema.parts import DEVICE
from mnist_exp.schema.rule import mistakes, refuse


@dataclass(kw_only=True)
class DeviceSettings:
    """The limits and flaws of the devices that hold the weights.

    Conductances are in arbitrary units. The defaults are a device without a flaw, as in
    ``conf/constraint/_ideal.yaml``.

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
    nonlinearity_ltp: float = 0.0
    nonlinearity_ltd: float = 0.0
    write_noise: float = 0.0
    rate_variation: float = 0.0
    bound_variation: float = 0.0
    stuck_at_min: float = 0.0
    stuck_at_max: float = 0.0
    diagnose_every: int = 50

    def __post_init__(self) -> None:
        refuse(mistakes(DEVICE, vars(self), "constraint") or self._contradictions())

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

    def _contradictions(self) -> Iterator[str]:
        """Name settings that are in range, but not together."""
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
        if self.bound_variation > 0 and self.quantize and self.rounding == "straight_through":
            yield (
                f"constraint.bound_variation={self.bound_variation}: rounding=straight_through "
                "reads all devices on one grid of levels; set bound_variation=0 or another "
                "rounding."
            )
        if self.stuck_at_min + self.stuck_at_max > 1:
            yield (
                f"constraint.stuck_at_min={self.stuck_at_min}, stuck_at_max={self.stuck_at_max}: "
                "shares of the devices, together at most 1."
            )

"""Ranges of the settings of devices after training, and of their test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_exp.schema.durations import TIMES
from mnist_exp.schema.rule import (
    ABOVE_0,
    AT_LEAST_0,
    BOOLEAN,
    FINITE,
    SHARE,
    Rule,
    integer,
    list_of,
    one_of,
    optional,
)

_FOUR = list_of(FINITE, "", length=4)


def _part(example: str) -> Rule:
    """Null, or a class with its settings; an object of one where Python sets it."""

    def accepts(value: Any) -> bool:
        if isinstance(value, Mapping):
            return "_target_" in value
        return value is None or type(value).__module__ != "builtins" or callable(value)

    return Rule(accepts, f"null, or a class such as {{_target_: {example}}}")


COEFFICIENTS = Rule(
    lambda value: list_of(FINITE, "").accepts(value) and len(value) > 0,
    "a list of at least one number, such as [0.26,1.97,-1.17]",
)
OF_CONDUCTANCE = Rule(
    lambda value: AT_LEAST_0.accepts(value) or (_FOUR.accepts(value) and 0 <= value[2] <= value[3]),
    "a number, at least 0, or [a,b,low,high], 0 <= low <= high, for clamp(a ln g + b, low, high)",
)
PROGRAMMING_ERROR = {"sigma": COEFFICIENTS, "g_max": ABOVE_0}
WRITE_VERIFY = PROGRAMMING_ERROR | {"iterations": integer(1), "tolerance": ABOVE_0}
POWER_LAW_DRIFT = {"t0": ABOVE_0, "nu_mean": OF_CONDUCTANCE, "nu_spread": OF_CONDUCTANCE}
EXPONENTIAL_RETENTION = {"tau": ABOVE_0, "tau_spread": AT_LEAST_0, "target": AT_LEAST_0}
READ_NOISE = {
    **dict.fromkeys(("white", "flicker", "exponent", "largest"), AT_LEAST_0),
    **dict.fromkeys(("t_read", "t0"), ABOVE_0),
}
HOME = "mnist_exp.device.programmed"
EXACT = "exact"  # products that no array's converters take part in
_READING = _part("mnist_exp.device.ArrayReading")
DEVICE_EVALUATION = {
    "times": TIMES,
    "repetitions": integer(1),
    "seed": integer(0),
    "program": optional(BOOLEAN),
    "programming": _part(f"{HOME}.ProgrammingError"),
    "drift": _part(f"{HOME}.PowerLawDrift"),
    "noise": _part(f"{HOME}.ReadNoise"),
    "read": Rule(
        lambda value: value == EXACT or _READING.accepts(value), f"{EXACT}, {_READING.allowed}"
    ),
    "stuck_at_zero": SHARE,
    "stuck_at_max": SHARE,
    "compensation": one_of("none", "global"),
    "reestimate_batch_norm": BOOLEAN,
    "batch_norm_images": integer(2),
}
# Parts within the group, each with a _target_ of its own.
NESTED = ("programming", "drift", "noise", "read")
PROGRAMMED_PARTS = {
    f"{HOME}.DeviceEvaluation": DEVICE_EVALUATION,
    f"{HOME}.ProgrammingError": PROGRAMMING_ERROR,
    f"{HOME}.WriteVerify": WRITE_VERIFY,
    f"{HOME}.PowerLawDrift": POWER_LAW_DRIFT,
    f"{HOME}.ExponentialRetention": EXPONENTIAL_RETENTION,
    f"{HOME}.ReadNoise": READ_NOISE,
}

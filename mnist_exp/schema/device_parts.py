"""Ranges of the arguments of a device constraint, its step models, schemes and readings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from mnist_exp.schema.rule import (
    ABOVE_0,
    AT_LEAST_0,
    BOOLEAN,
    FINITE,
    SHARE,
    TEXT,
    Rule,
    integer,
    list_of,
    number,
    one_of,
    optional,
)

FITTED_CURVES = ("exponential", "soft_bounds", "table")  # to a measurement, by `fit-device`
LARGEST_LABEL = 9.0  # of a conductance curve; last of NeuroSim's table, see `device.pulses`

LEVELS = 2**24  # whole numbers of pulses, and of levels, that float32 tells apart

LABEL = number(
    lambda value: abs(value) <= LARGEST_LABEL, f"from -{LARGEST_LABEL:g} to {LARGEST_LABEL:g}"
)
PLACES = ("before_update", "after_update", "after_retention", "after_rounding")
PLACE = one_of(*PLACES)
SPREADS = ("device_spread", "cycle_spread")  # groups with an entry for each number that spreads
COSTLY = ("pulse", "read", "conversion")  # events with an energy and a time
SPREAD = Rule(
    lambda value: isinstance(value, Mapping) and all(map(TEXT.accepts, value)),
    "a group of numbers by name, such as {step: 0.3}",
)
STEP_MODEL = {
    "up_down": number(
        lambda value: -1 < value < 1,
        "above -1 and below 1 (at 1 the pulses down, at -1 those up would have no effect)",
    ),
    "potentiation_only": BOOLEAN,
    **dict.fromkeys(SPREADS, SPREAD),
    "write_noise": AT_LEAST_0,
}
SLOPE = number(
    lambda value: 0 <= value <= 1, "from 0 to 1 (above 1 the step turns negative within the bounds)"
)
LINEAR_STEP = STEP_MODEL | {"gamma_up": SLOPE, "gamma_down": SLOPE, "origin": FINITE}
SOFT_BOUNDS = STEP_MODEL | {"origin": FINITE}
EXP_STEP = STEP_MODEL | dict.fromkeys(
    ("A_up", "A_down", "gamma_up", "gamma_down", "a", "b"), FINITE
)
POW_STEP = STEP_MODEL | {"gamma_up": AT_LEAST_0, "gamma_down": AT_LEAST_0}
BITS = 16  # of a converter; more would be lost in float32
ARRAY_READING = {
    "input_bits": optional(integer(1, BITS)),
    "input_range": Rule(
        lambda value: value is None or value == "abs_max" or ABOVE_0.accepts(value),
        "null, abs_max or a number above 0",
    ),
    "input_signed": BOOLEAN,
    "output_bits": optional(integer(2, BITS)),
    "output_range": Rule(
        lambda value: value is None or value == "all_rows" or ABOVE_0.accepts(value),
        "null, all_rows or a number above 0",
    ),
    "output_noise": AT_LEAST_0,
    "read_noise": AT_LEAST_0,
    "weight_noise": AT_LEAST_0,
    "tile_rows": optional(integer(1)),
    "tile_columns": optional(integer(1)),
    "wire_resistance": AT_LEAST_0,
    "in_backward": BOOLEAN,
}
TIKI_TAKA = {
    "every": integer(1),
    "columns": integer(1),
    "fast_rate": ABOVE_0,
    "rate": ABOVE_0,
    "gamma": AT_LEAST_0,
}
TIKI_TAKA_V2 = TIKI_TAKA | {"threshold": AT_LEAST_0, "flip_probability": SHARE}
THRESHOLDED_WRITES = {
    "threshold": AT_LEAST_0,
    "keep": BOOLEAN,
    "probability": number(lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "scale": ABOVE_0,
}
COST = {
    "endurance": optional(ABOVE_0),
    **dict.fromkeys(
        (f"{what}_per_{event}" for what in ("energy", "time") for event in COSTLY),
        optional(AT_LEAST_0),
    ),
}
TABLE_STEP = STEP_MODEL | {
    "conductance": Rule(
        lambda value: (
            list_of(FINITE, "").accepts(value)
            and len(value) > 1
            and all(low < high for low, high in pairwise(value))
        ),
        "a list of at least 2 rising numbers",
    ),
    **dict.fromkeys(("up", "down"), list_of(AT_LEAST_0, "a list of numbers of at least 0")),
}


def _word_or_part(word: str | None, method: str, part: str) -> Rule:
    """A word or null, or the ``_target_`` of a part, or an object with the part's method."""

    def accepts(value: object) -> bool:
        if value is None or isinstance(value, str):
            return value == word
        if isinstance(value, Mapping):
            return "_target_" in value  # which has a rule of its own
        return callable(getattr(value, method, None))

    return Rule(accepts, f"{word or 'null'}, or {part}")


_TWO_SPREADS = list_of(AT_LEAST_0, "", length=2)
DEVICE = {
    "mapping": one_of("direct", "reference", "differential"),
    "gain": ABOVE_0,
    "W_min": FINITE,
    "W_max": FINITE,
    "bias": one_of("constrained", "free"),
    "clip": BOOLEAN,
    "quantize": BOOLEAN,
    "levels": integer(2, LEVELS),
    "rounding": one_of("nearest", "stochastic", "accumulate", "straight_through"),
    "retain": BOOLEAN,
    "retention": optional(SHARE),
    "retention_tau": optional(ABOVE_0),
    "retention_target": optional(FINITE),
    "pulse_rounding": one_of("none", "nearest", "stochastic", "accumulate"),
    "apply_to": one_of("batch", "sample"),
    "curve": _word_or_part(
        "exponential", "shape", "a step model such as {_target_: mnist_exp.device.LinearStep}"
    ),
    "update": _word_or_part(
        "direct",
        "start",
        "a scheme such as {_target_: mnist_exp.device.TikiTaka}, as constraint/update=tiki_taka "
        "gives",
    ),
    "read": _word_or_part(
        None,
        "read",
        "a reading such as {_target_: mnist_exp.device.ArrayReading}, as constraint/read=analog "
        "gives",
    ),
    "cost": _word_or_part(
        None, "figures", "{_target_: mnist_exp.device.Cost}, as constraint/cost=counted gives"
    ),
    "nonlinearity_ltp": LABEL,
    "nonlinearity_ltd": LABEL,
    "write_noise": AT_LEAST_0,
    "rate_variation": AT_LEAST_0,
    "bound_variation": Rule(
        lambda value: AT_LEAST_0.accepts(value) or _TWO_SPREADS.accepts(value),
        "a number, at least 0, or two of these, for W_min and W_max",
    ),
    "stuck_at_min": SHARE,
    "stuck_at_max": SHARE,
    "diagnose_every": integer(1),
    "effects": Rule(
        lambda value: isinstance(value, (list, tuple)),
        "a list of effects, such as [{_target_: my.TemperatureDrift, rate: 1e-4}]",
    ),
}

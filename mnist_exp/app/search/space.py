"""What a search may set, read from Hydra's override grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from mnist_exp.errors import UserError

LOG = "log"


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``, both included.

    Attributes
    ----------
    low, high : float or int
        The bounds; whole numbers if both are.
    step : float, int or None
        Distance of allowed values from ``low`` on; None: all between the bounds.
    log : bool
        Whether values are drawn evenly in their logarithm.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are allowed."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """Some of several values, as texts of overrides."""

    values: tuple[str, ...]


Range: TypeAlias = "Numbers | Choice"


@dataclass(frozen=True)
class Space:
    """What a search sets.

    Attributes
    ----------
    fixed : list of str
        Overrides that all trials share.
    ranges : dict of Range
        By key, as in overrides (``+`` included).
    """

    fixed: list[str]
    ranges: dict[str, Range]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return a trial's overrides, from a value for each range."""
        return [*self.fixed, *(f"{key}={_text(values[key], self.ranges[key])}" for key in values)]

    def grid(self) -> dict[str, list[Any]]:
        """Return the values of each range.

        Raises
        ------
        UserError
            If one is an interval.
        """
        return {key: _values(key, found) for key, found in self.ranges.items()}


def read_space(arguments: Sequence[str], params: Mapping[str, Any]) -> Space:
    """Read what a search sets; the command line replaces the option's ``params``.

    Parameters
    ----------
    arguments : sequence of str
        Overrides as typed.
    params : mapping
        ``hydra.sweeper.params``.

    Raises
    ------
    UserError
        If nothing is searched, or a range cannot be.
    """
    texts = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().hydra else None
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(texts)
    last = {override.key_or_group: override for override in parsed}
    fixed = [
        override.input_line
        for override in parsed
        if not override.is_sweep_override() and last[override.key_or_group] is override
    ]
    found = [override for override in last.values() if override.is_sweep_override()]
    if not found:
        raise UserError(
            "hydra/sweeper=optuna: nothing is searched. Give a setting a range, such as "
            "'optimizer.lr=tag(log,interval(1e-4,1e-1))', or values: model=mlp,mlp300."
        )
    return Space(
        [line for line in fixed if line is not None],
        {override.get_key_element(): _range(override) for override in found},
    )


def _range(override: Override) -> Range:
    value, text = override.value(), override.input_line
    tags: set[str] = getattr(value, "tags", set())
    if tags - {LOG}:
        raise UserError(f"{text}: tag({', '.join(sorted(tags))}, ...): allowed is tag(log, ...).")
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        found = Numbers(value.start, value.end, log=LOG in tags)
    elif isinstance(value, RangeSweep):
        found = _numbers(value, f"{text}", LOG in tags)
    elif tags:
        raise UserError(f"{text}: tag(log, ...) is for interval(...) and range(...).")
    else:
        values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if not values:
            raise UserError(f"{text}: has no values.")
        return Choice(values)
    if not found.low <= found.high or (found.log and found.low <= 0):
        least = "above 0, and " if found.log else ""
        raise UserError(f"{text}: the lower bound must be {least}at most the upper one.")
    return found


def _numbers(value: RangeSweep, text: str, log: bool) -> Numbers:
    values = sorted(value.range())
    if not values:
        raise UserError(f"{text}: has no values.")
    low, step = values[0], abs(value.step)
    if log and step != 1:
        raise UserError(f"{text}: tag(log, range(...)) needs a step of 1; use interval(...).")
    if isinstance(low, int):
        return Numbers(low, values[-1], None if log else step, log)
    if log:
        raise UserError(f"{text}: tag(log, range(...)) needs whole numbers; use interval(...).")
    high = Decimal(str(low)) + Decimal(str(step)) * (len(values) - 1)  # without rounding errors
    return Numbers(low, float(high), float(step))


def _values(key: str, found: Range) -> list[Any]:
    if isinstance(found, Choice):
        return list(found.values)
    if found.step is None and not found.whole:
        raise UserError(
            f"{key}: a grid needs values, not an interval; use range(...) or choice(...), or "
            "another hydra.sweeper.sampler."
        )
    step = found.step or 1
    count = round((found.high - found.low) / step) + 1
    return [found.low + number * step for number in range(count)]


def _text(value: Any, found: Range) -> str:
    if isinstance(found, Choice):
        return str(value)
    if found.whole:
        return str(int(value))
    return repr(value) if found.step is None else f"{value:.12g}"

"""Format text tables, accuracies and times for the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mnist_exp.terminal import printable


def table_lines(
    rows: Sequence[Sequence[str]], align: Callable[[str, int], str] = str.ljust
) -> list[str]:
    """Align rows of cells in columns two spaces apart; ``align`` is ``str.ljust`` or ``rjust``.

    Control characters are escaped, so each row is one line.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(map(align, row, widths)).rstrip() for row in shown]


def shown_accuracy(mean: float | None, std: float | None = None, between: str = " +- ") -> str:
    """Format an accuracy in [0, 1] as ``98.01% +- 0.12%``, or ``98.01%`` without ``std``."""
    if mean is None:
        return ""
    return f"{mean:.2%}" if std is None else f"{mean:.2%}{between}{std:.2%}"


class Share(float):
    """A number that people read in per cent."""


def shown_number(value: float | None) -> str:
    """Format a number with four digits, a `Share` as a percentage; an empty string for None."""
    if isinstance(value, Share):
        return f"{value:.2%}"
    return "" if value is None else f"{value:.4g}"


def shown_time(seconds: float) -> str:
    """Format a Unix time in s as local time; an empty string if out of range."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def shown_duration(seconds: float) -> str:
    """Format a duration in s: ``4.2 s``, ``75 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

"""Tables for people: columns of printable text, and how an accuracy is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_exp.terminal import printable


def table_lines(
    rows: Sequence[Sequence[str]], align: Callable[[str, int], str] = str.ljust
) -> list[str]:
    """Lay rows of cells out in columns, two spaces apart; ``align`` is ``str.ljust`` or ``rjust``.

    What a terminal would obey is written as escapes, so that a line is a row.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(map(align, row, widths)).rstrip() for row in shown]


def shown_accuracy(mean: float | None, std: float | None = None, between: str = " +- ") -> str:
    """Write an accuracy in [0, 1] as ``98.01% +- 0.12%``, without a deviation as ``98.01%``."""
    if mean is None:
        return ""
    return f"{mean:.2%}" if std is None else f"{mean:.2%}{between}{std:.2%}"

"""Wording of messages: numbers with their nouns. Imports nothing of the package."""

from __future__ import annotations


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """Return a whole number and its noun: ``1 image``, ``60,000 images``.

    ``plural`` is that of a noun that takes more than an "s", such as ``classes``.
    """
    digits = f"{number:,.0f}"
    return f"{digits} {noun if digits == '1' else plural or noun + 's'}"

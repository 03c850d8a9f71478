"""Text from files, made fit for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Return ``text`` on one line, with escapes such as ``\x1b`` for what a terminal would obey.

    These are control characters, marks that change the direction of writing, and bytes of file
    names that are no text.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def printable_lines(text: object) -> str:
    """Do the same for text of several lines."""
    return "\n".join(map(printable, str(text).split("\n")))

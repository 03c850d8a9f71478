"""Checks of names that become part of a path: of a model, a parameter, a directory."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

from mnist_exp.errors import UserError

LONGEST_NAME = 200  # bytes; file systems allow 255, and files add an extension
PLAIN_NAME = (
    f"a plain name of at most {LONGEST_NAME} bytes: no / or \\ or control characters, no . or - "
    "in front, no . or space at the end"
)


def is_plain_name(name: object, longest: int = LONGEST_NAME) -> bool:
    """Whether ``name`` is a single file name on any system, of at most ``longest`` bytes."""
    return (
        isinstance(name, str)
        and name.isprintable()  # neither control characters nor halves of a surrogate pair
        and PurePosixPath(name).name == name == PureWindowsPath(name).name
        and not name.startswith((".", "-"))
        and not name.endswith((".", " "))
        and 0 < len(name.encode()) <= longest
    )


def check_plain_name(name: object, what: str) -> None:
    """Refuse a name that is not plain; ``what`` names its owner in the message.

    Raises
    ------
    UserError
        If `is_plain_name` is false.
    """
    if not is_plain_name(name):
        raise UserError(f"{what} is {name!r}; allowed is {PLAIN_NAME}.")

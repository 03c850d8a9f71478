"""Read untrusted files without hanging or exhausting memory."""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from mnist_exp.errors import UserError

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows lacks it; links are rare there
JSON_GROWTH = 32  # bytes of memory per byte of JSON at most: each "[]," makes a list
DEEPEST = 50  # levels of nested lists and objects
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, *, follow: bool = True) -> IO[bytes]:
    """Open a regular file for reading, without ever waiting for a pipe or device.

    Parameters
    ----------
    path : Path
        The file.
    follow : bool
        Whether ``path`` may be a link to it.

    Raises
    ------
    UserError
        If it is not a regular file.
    OSError
        If it is missing or unreadable.
    """
    _check_regular(path, os.stat(path, follow_symlinks=follow))  # opening a device may change it
    descriptor = os.open(path, os.O_RDONLY | _FLAGS | (0 if follow else NO_LINK))
    file = open(descriptor, "rb", buffering=0)  # noqa: SIM115, the caller closes it
    try:
        _check_regular(path, os.fstat(descriptor))
    except UserError:
        file.close()
        raise
    return file


def open_own(path: Path, flags: int, mode: int = 0o666) -> IO[bytes]:
    """Open or create a file for writing in place; no other path may lead to it.

    Parameters
    ----------
    path : Path
        The file.
    flags : int
        Flags of ``os.open``, without O_TRUNC.
    mode : int
        Permissions of a new file, before the umask.

    Raises
    ------
    UserError
        If it is a link, a pipe or a device, or has other hard links.
    OSError
        If it cannot be opened or created.
    """
    if os.path.lexists(path):  # the system reports a link only as a loop
        _check_regular(path, os.lstat(path))
    descriptor = os.open(path, flags | _FLAGS | NO_LINK, mode)
    appending = "ab" if flags & os.O_APPEND else "r+b"
    file = open(descriptor, appending, buffering=0)  # noqa: SIM115, the caller closes it
    status = os.fstat(descriptor)
    try:
        _check_regular(path, status)
        if status.st_nlink > 1:
            raise UserError(
                f"{path}: other paths lead to the same file, which would be written to. Replace "
                "it by a copy, or delete it."
            )
    except UserError:
        file.close()
        raise
    return file


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """Read a whole regular file of at most ``limit`` bytes; None: as many as memory holds.

    Raises
    ------
    UserError
        If it is too large, or not a regular file.
    OSError
        If it is missing or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_size(path, size, limit)
        content = bytearray()
        while len(content) <= size and (block := file.read(size + 1 - len(content))):
            content += block
    check_size(path, len(content), limit)  # it may have grown
    return bytes(content)


def read_json(path: Path, limit: int) -> Any:
    """Read a JSON file of at most ``limit`` bytes.

    Raises
    ------
    UserError
        If it is damaged, too large, or not a regular file.
    OSError
        If it is missing or cannot be read.
    """
    content = read_regular(path, limit)
    check_memory(path, len(content) * JSON_GROWTH)
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error
    check_nesting(value, path)
    return value


def check_nesting(value: Any, path: Path, most: float = math.inf) -> None:
    """Check that nested containers are neither too many nor too deep to walk.

    Parameters
    ----------
    value : object
        The content of ``path``.
    path : Path
        Named in the message.
    most : float
        Most values allowed; a container that occurs several times counts each time.

    Raises
    ------
    UserError
        If there are more than ``most`` values, or nesting exceeds `DEEPEST`.
    """
    waiting, seen = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if seen > most or depth > DEEPEST:
            raise UserError(
                f"{path}: is damaged: it holds more than {most:,} values, or {DEEPEST} inside "
                "each other."
            )
        if isinstance(item, str | int | float):  # most are; asking about Mapping takes longer
            continue
        if isinstance(item, Mapping):
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, depth + 1) for inner in item]


def check_size(path: Path, size: int, limit: int | None = None) -> None:
    """Refuse content larger than ``limit`` bytes or than free memory.

    Raises
    ------
    UserError
        Naming the file.
    """
    if limit is not None and size > limit:
        raise UserError(f"{path}: holds {size:,} bytes; such a file has at most {limit:,}.")
    check_memory(path, size)


def check_memory(path: Path, needed: int) -> None:
    """Refuse content that needs more memory than is free.

    Raises
    ------
    UserError
        Naming the file.
    """
    free = available_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{path}: may take {needed:,} bytes of memory, and {free:,} are free. Free some, if "
            "the file can be trusted."
        )


def available_memory() -> int | None:
    """Return the bytes available without swapping; None if unknown."""
    if not sys.platform.startswith("linux"):
        return None
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is not a regular file. Delete it, or put the file back.")

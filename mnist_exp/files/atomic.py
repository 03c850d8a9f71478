"""Atomic file writes: write a temporary file, flush it to disk, rename it."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mnist_exp.files.regular import open_own

# Seconds to wait for a program that has the old file open, which Windows does not replace.
REPLACE_SECONDS = 2.0 if os.name == "nt" else 0.0


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Replace the content of ``path``; a kill at any moment leaves the old or the new file.

    Raises
    ------
    OSError
        If the disk is full or the directory read-only, or if ``path`` is a pipe or a device, which
        would be gone; what was there is untouched.
    """
    if os.path.lexists(path) and not (path.is_symlink() or path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # random, since processes of several machines may have the same number
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_directory(path.parent)


def remove_unfinished(directory: Path) -> None:
    """Delete temporary files of killed writers; the caller holds the lock on ``directory``."""
    for path in directory.glob(".*.tmp"):
        process = path.suffixes[-2:-1]  # `write_atomic` puts the process number there
        if process and process[0][1:].isdecimal() and (path.is_symlink() or path.is_file()):
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; non-finite numbers become null."""
    write_atomic(path, (json.dumps(finite(value), indent=2, allow_nan=False) + "\n").encode())


def json_line(row: dict[str, Any]) -> bytes:
    """Return ``row`` as a line of a JSON-lines file; non-finite numbers become null."""
    return (json.dumps(finite(row), allow_nan=False) + "\n").encode()


def append_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a JSON-lines file and flush it to disk.

    Raises
    ------
    OSError
        If the disk is full; the file keeps its earlier rows only.
    UserError
        If the file is a link or has other hard links, or is not a regular file.
    """
    with open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        size = file.tell()
        lines = b"".join(map(json_line, rows))
        try:
            if file.write(lines) < len(lines):  # the disk filled up on the way
                file.write(lines)  # write again to get the system's error
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def _put_in_place(temporary: Path, path: Path) -> None:
    deadline = time.monotonic() + REPLACE_SECONDS
    while True:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON lacks, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def flush_directory(directory: Path) -> None:
    """Flush a directory's entries to disk, where the system allows it."""
    if os.name != "posix":  # Windows cannot open a directory to flush it
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

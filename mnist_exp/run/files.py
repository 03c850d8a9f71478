"""Files that are either whole or not there: written aside, flushed to disk, renamed."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_exp.figures import Figure


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; a kill at any moment leaves the old file or the new one.

    Raises
    ------
    OSError
        If the disk is full or the directory read-only; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_directory(path.parent)


def remove_unfinished(directory: Path) -> None:
    """Delete what writers that were killed left in ``directory``; to be called with it locked."""
    for path in directory.glob(".*.tmp"):
        if path.suffixes[-2:-1] and path.suffixes[-2][1:].isdecimal():  # a process, as above
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; numbers that are not finite become null."""
    write_atomic(path, (json.dumps(finite(value), indent=2, allow_nan=False) + "\n").encode())


def write_png(path: Path, figure: Figure, dpi: int) -> None:
    """Draw a figure into a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    write_atomic(path, png.getvalue())


def json_line(row: dict[str, Any]) -> bytes:
    """Return a row of a JSON-lines file; numbers that are not finite become null."""
    return (json.dumps(finite(row), allow_nan=False) + "\n").encode()


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a JSON-lines file and flush it to disk.

    Raises
    ------
    OSError
        If the disk is full; the file ends with the row before.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        line = json_line(row)
        try:
            if file.write(line) < len(line):  # the disk filled up on the way
                file.write(line)  # nothing fits any more: the system says why
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
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

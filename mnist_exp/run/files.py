"""Files that are either whole or not there: written aside, flushed to disk, renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


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
    _flush_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN is refused, since JSON has none."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a JSON-lines file and flush it to disk."""
    with path.open("ab") as file:
        file.write((json.dumps(row, allow_nan=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    if os.name != "posix":  # Windows cannot open a directory to flush it
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

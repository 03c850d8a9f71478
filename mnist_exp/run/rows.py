"""Read the rows of metrics.jsonl and steps.jsonl."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.regular import DEEPEST, JSON_GROWTH, check_memory, check_nesting, read_regular
from mnist_exp.run.formats import shown

LARGEST = 1 << 30  # bytes; a row of steps.jsonl takes about 80


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; none if it does not exist.

    A last line without its end is left out: a running training is just writing it.

    Raises
    ------
    UserError
        If it is damaged, too large or cannot be read; names the line.
    """
    try:
        content = read_regular(path, LARGEST)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    check_memory(path, len(content) * JSON_GROWTH)
    rows, deep = [], []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is damaged ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is damaged: it is {shown(row)}, not a row.")
        rows.append(row)
        if line.count(b"[") + line.count(b"{") >= DEEPEST:  # else it cannot be too deep
            deep.append(row)
    check_nesting(deep, path)
    return rows


def as_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Return rows as a pandas DataFrame; where pandas is not installed, as a list of dicts."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return list(rows)
    return pandas.DataFrame(list(rows))

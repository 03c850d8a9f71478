"""results.json: the one file that says what a run is and how it stands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.files import finite, write_json

SCHEMA_VERSION = 1
NAME = "results.json"
COMPLETED = "completed"


def write_results(directory: Path, results: dict[str, Any]) -> None:
    """Replace results.json; its last entry is a checksum of the others."""
    content = {"schema_version": SCHEMA_VERSION, **finite(results)}
    write_json(directory / NAME, {**content, "checksum": _checksum(content)})


def read_results(directory: Path) -> dict[str, Any] | None:
    """Read results.json; None if there is none.

    Raises
    ------
    UserError
        If it is damaged or of another schema version.
    """
    path = directory / NAME
    try:
        results: dict[str, Any] = json.loads(path.read_bytes())
        checksum = results.pop("checksum")
        version = results.pop("schema_version")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: has schema version {version}, this mnist_exp reads {SCHEMA_VERSION}."
        )
    if checksum != _checksum({"schema_version": version, **results}):
        raise UserError(f"{path}: its content does not match its checksum; damaged or edited.")
    return results


def finished_results(directory: Path) -> dict[str, Any] | None:
    """Return the results of a run that is completed; None of any other, or if they are damaged."""
    try:
        results = read_results(directory)
    except UserError:
        return None
    return results if results is not None and results["status"] == COMPLETED else None


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

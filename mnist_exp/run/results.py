"""results.json: the identity, status and results of a run.

Version 2. ``folds`` has one row per split. Over all folds: ``accuracy`` and ``loss`` (``mean``;
``std``, the sample standard deviation, null for one split; ``n``), ``confusion_matrix`` (mean over
folds; counts for one split) and ``per_class_accuracy`` (from that matrix; null for a class without
test images). Accuracies are shares in [0, 1], losses mean cross-entropies in nats, whatever the
loss trained with. ``metrics``, if there are any, has mean, std and n by name, and in each row of
``folds`` the value (null: not a finite number, and left out of the mean); ``percent`` is true of
those that people read in per cent, whose values are shares all the same. ``cost``, if counted, is
what training took up to its last epoch: mean, std and n over folds, and a value in each row;
`mnist_exp.device.cost.Cost.figures` says what of. Its ``energy_estimate`` (joules) and
``time_estimate`` (seconds) are counts times constants that the user gave.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import finite, write_json
from mnist_exp.files.regular import read_json
from mnist_exp.run.formats import ANY, RESULTS, check_complete, check_format
from mnist_exp.run.results_version_1 import RESULTS_1, to_version_2

SCHEMA_VERSION = 2
NAME = "results.json"
COMPLETED = "completed"
PRUNED = "pruned"  # begins why a fold stopped if a search ended it; status of such a sweep's job
LARGEST = 1 << 28  # bytes; each epoch of each fold takes about 300


def write_results(directory: Path, results: dict[str, Any]) -> None:
    """Replace results.json, adding a checksum of its other entries."""
    content = {"schema_version": SCHEMA_VERSION, **finite(results)}
    write_json(directory / NAME, {**content, "checksum": checksum_of(content)})


def read_results(directory: Path) -> dict[str, Any] | None:
    """Read results.json, converted to version 2; return None if it does not exist.

    Raises
    ------
    UserError
        If it is damaged, invalid or has an unknown schema version.
    """
    path = directory / NAME
    try:
        results = read_json(path, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    check_format(results, {"schema_version": ANY, "checksum": ANY}, path)
    checksum, version = results.pop("checksum"), results.pop("schema_version")
    if version not in (1, SCHEMA_VERSION):
        raise UserError(
            f"{path}: has schema version {version}, this mnist_exp reads 1 to {SCHEMA_VERSION}."
        )
    if checksum != checksum_of({"schema_version": version, **results}):
        raise UserError(f"{path}: its content does not match its checksum; damaged or edited.")
    if version == 1:
        check_format(results, RESULTS_1, path)
        results = to_version_2(results, path)
    check_format(results, RESULTS, path)
    return dict(results)


def finished_results(directory: Path) -> dict[str, Any] | None:
    """Return the results of a completed run; None for any other, or if they are damaged."""
    try:
        results = read_results(directory)
        if results is None or results["status"] != COMPLETED:
            return None
        check_complete(results, directory / NAME)
    except UserError:
        return None
    return results


def checksum_of(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the entries, independent of their order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

"""What a run left in its directory, as far as it can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mnist_exp.errors import UserError
from mnist_exp.files.names import is_plain_name
from mnist_exp.files.regular import read_json
from mnist_exp.gradients.location import located
from mnist_exp.gradients.manifest import read_manifest
from mnist_exp.run.directory import STEPS
from mnist_exp.run.formats import (
    FINITE,
    NUMBERS,
    SHARE,
    STRING,
    ListOf,
    Shape,
    check_complete,
    check_format,
)
from mnist_exp.run.overview import read_overview
from mnist_exp.run.predictions import Predictions, read_predictions
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.rows import read_rows
from mnist_exp.run.run_settings import RunSettings, read_settings
from mnist_exp.schema import optional

T = TypeVar("T")
Row = dict[str, Any]
PAST_END = {*NUMBERS, "metrics", "cost"}  # keys of results.json that a finished training has
METRICS = "metrics.jsonl"
LARGEST = 1 << 26  # bytes of device_evaluation.json
DEVICE_EVALUATION: Shape = {
    "devices": STRING,
    "compensation": STRING,
    "as_trained": {"mean": SHARE},
    "times": ListOf(
        {"time": STRING, "seconds": FINITE, "accuracy": {"mean": SHARE, "std": optional(FINITE)}}
    ),
}


@dataclass(frozen=True)
class CollectedEpoch:
    """Statistics of the samples' gradients in one epoch of one fold (``gradient_stats.json``)."""

    fold: int
    epoch: int
    statistics: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """What a run that is just ending knows, and its page need not read again.

    Attributes
    ----------
    results : dict
        The content that results.json will have.
    rows, steps : list of dict
        Of metrics.jsonl and steps.jsonl, with ``fold`` where there are several.
    """

    results: dict[str, Any]
    rows: list[Row]
    steps: list[Row]


@dataclass(frozen=True)
class RunFiles:
    """What a run left.

    Attributes
    ----------
    directory : Path
        The run directory.
    status, error : str
        As `mnist_exp.run.overview.RunOverview`.
    results : dict
        Content of results.json; empty for a run that never began.
    settings : RunSettings
        The configuration, and what was typed.
    rows, steps : list of dict
        Of metrics.jsonl and steps.jsonl, by fold and time; ``fold`` is 1 where there is one split.
    predictions : Predictions or None
        Of the test images.
    device_evaluation : dict or None
        Content of device_evaluation.json.
    gradients : list of CollectedEpoch
        By fold and epoch.
    problems : list of str
        What could not be read.
    """

    directory: Path
    status: str
    error: str
    results: dict[str, Any]
    settings: RunSettings
    rows: list[Row]
    steps: list[Row]
    predictions: Predictions | None
    device_evaluation: dict[str, Any] | None
    gradients: list[CollectedEpoch]
    problems: list[str] = field(default_factory=list)

    @property
    def completed(self) -> bool:
        """Whether the run reached its end."""
        return self.status == COMPLETED

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds that left anything, from 1."""
        found = {row["fold"] for row in (*self.results.get("folds", ()), *self.rows, *self.steps)}
        return sorted(found) or [1]

    @property
    def versions(self) -> Mapping[str, Any]:
        """Versions of the packages that computed the results."""
        found = self.results.get("versions")
        return found if isinstance(found, Mapping) else {}

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a group of the configuration; empty if there is none."""
        return section(self.settings, name)

    @property
    def class_names(self) -> list[str]:
        """The name of each label; none for a run that never began."""
        return list(self.results.get("class_names", ()))


def read_run(directory: Path, ended: Ended | None = None) -> RunFiles:
    """Read a run; ``ended`` is what one that is just ending knows already.

    Raises
    ------
    UserError
        If results.json is damaged.
    """
    if ended is None:
        overview = read_overview(directory)
        status, error = overview.status, overview.error
        results = _consistent(read_results(directory) or {}, directory / RESULTS)
    else:
        status, error, results = COMPLETED, "", ended.results
    settings = read_settings(directory)
    reading = _Reading(directory, [settings.problem] if settings.problem else [])
    rows, steps = (ended.rows, ended.steps) if ended else (None, None)
    classes = len(results.get("class_names", ()))
    return RunFiles(
        directory=directory,
        status=status,
        error=error,
        results=results,
        settings=settings,
        rows=reading.rows(METRICS, rows, "epoch") or _epochs_of(results),
        steps=reading.rows(STEPS, steps, "step"),
        predictions=reading.tried(lambda: read_predictions(directory, classes), None),
        device_evaluation=reading.tried(lambda: _device_evaluation(directory), None),
        gradients=reading.tried(lambda: _collected(directory, settings), []),
        problems=reading.problems,
    )


@dataclass
class _Reading:
    """Read files of a directory, noting what cannot be read."""

    directory: Path
    problems: list[str]

    def tried(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except UserError as failure:
            self.problems.append(str(failure))
        except OSError as failure:
            self.problems.append(f"{failure.filename}: cannot be read ({failure.strerror}).")
        return otherwise

    def rows(self, name: str, known: list[Row] | None, count: str) -> list[Row]:
        """Return the rows of a file that have a number, by fold and number."""
        none: list[Row] = []
        if known is None:
            known = self.tried(lambda: read_rows(self.directory / name), none)
        return _numbered(known, count)


def section(settings: RunSettings, name: str) -> Mapping[str, Any]:
    """Return a group of a configuration; empty if there is none."""
    found = settings.config.get(name)
    return found if isinstance(found, Mapping) else {}


def _consistent(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the results without numbers that are incomplete, which only unfinished runs have."""
    try:
        check_complete(results, path)
    except UserError:
        if results.get("status") == COMPLETED:
            raise
        kept = {"wall_seconds", "parameters"}
        return {key: value for key, value in results.items() if key in kept or key not in PAST_END}
    return results


def _numbered(rows: list[Row], count: str) -> list[Row]:
    """Return the rows that have a number, by fold and number."""
    sound = [
        {**row, "fold": row.get("fold", 1)}
        for row in rows
        if isinstance(row.get(count), int) and isinstance(row.get("fold", 1), int)
    ]
    return sorted(sound, key=lambda row: (row["fold"], row[count]))


def _epochs_of(results: dict[str, Any]) -> list[Row]:
    """Return the epochs in results.json, where metrics.jsonl is missing."""
    return [
        {**row, "fold": fold["fold"]}
        for fold in results.get("folds", ())
        for row in fold.get("epochs", ())
    ]


def _device_evaluation(directory: Path) -> dict[str, Any] | None:
    path = directory / "device_evaluation.json"
    try:
        found: dict[str, Any] = read_json(path, LARGEST)
    except FileNotFoundError:
        return None
    check_format(found, DEVICE_EVALUATION, path)
    return found


def _collected(directory: Path, settings: RunSettings) -> list[CollectedEpoch]:
    """Read the statistics of collected gradients, without their arrays."""
    name = section(settings, "gradients").get("directory")
    if not is_plain_name(name):
        return []
    found = []
    for place in [directory / str(name), *directory.glob(f"fold_*/{name}")]:
        number = place.relative_to(directory).parts[0].removeprefix("fold_")
        for epoch in sorted(located(place).glob("epoch_*")):
            if epoch.name[6:].isdecimal():
                _, statistics = read_manifest(epoch)
                fold = int(number) if number.isdecimal() else 1
                found.append(CollectedEpoch(fold, int(epoch.name[6:]), statistics))
    return sorted(found, key=lambda one: (one.fold, one.epoch))

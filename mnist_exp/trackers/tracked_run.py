"""What a tracker is told about a run: its place, configuration and identity."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnist_exp.files.atomic import write_json
from mnist_exp.files.regular import read_json
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.sweep_record import SWEEP_FILE

IDS = ".trackers"  # folder with the identities under which trackers know a run or a sweep
LOCK_SECONDS = 60.0  # for another fold or job to ask a server for the identity they share
LONGEST_GROUP = 100  # characters; W&B refuses more than 128


@dataclass(frozen=True)
class TrackedRun:
    """A training, or a run over folds, as a tracker shows it.

    Attributes
    ----------
    directory : Path
        The run directory.
    fold : int or None
        The fold, from 1; None for the only split, and for the run over all folds.
    config : mapping
        The configuration, with dotted keys.
    step : int
        Optimizer steps done before, where training resumes.
    over_folds : bool
        Whether it is the run over several folds.
    """

    directory: Path
    fold: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    over_folds: bool = False

    @property
    def sweep(self) -> Path | None:
        """The directory of the sweep that the run is a job of."""
        parents = self.directory.absolute().parents
        return next((path for path in parents if (path / SWEEP_FILE).is_file()), None)

    @property
    def whole(self) -> TrackedRun:
        """The run over all folds."""
        return replace(self, fold=None, over_folds=True)

    @property
    def files(self) -> Path:
        """Directory of this training's own files: the run's, or in it the fold's."""
        return self.directory if self.fold is None else self.directory / f"fold_{self.fold}"

    @property
    def name(self) -> str:
        """Last part of the run directory; of a job with the sweep's, of a fold with its number."""
        directory, sweep = self.directory.absolute(), self.sweep
        name = directory.name if sweep is None else str(directory.relative_to(sweep.parent))
        return name if self.fold is None else f"{name}/fold_{self.fold}"

    @property
    def group(self) -> str | None:
        """Path of the sweep, or else of the run if it has folds; None for a run on its own."""
        has_folds = self.over_folds or self.fold is not None
        directory = self.sweep or (self.directory if has_folds else None)
        if directory is None:
            return None
        path = directory.absolute()
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return str(path)[-LONGEST_GROUP:]

    def identity(
        self,
        key: str,
        make: Callable[[], str] = lambda: uuid.uuid4().hex,
        place: Path | None = None,
    ) -> str:
        """Return what was remembered under ``key``, or remember what ``make`` returns.

        Processes that ask at the same time get the same answer. It is kept in the run directory,
        so that a resumed or moved run stays the same run.

        Parameters
        ----------
        key : str
            Name of the identity.
        make : callable
            Returns a new one; by default a random one of 32 hexadecimal digits.
        place : Path or None
            The directory it belongs to, such as the sweep's; None: the run's.
        """
        directory = (place or self.directory) / IDS
        path = directory / "ids.json"
        with DirectoryLock(directory, wait=LOCK_SECONDS):
            known: Any = read_json(path, 1 << 20) if path.exists() else {}
            if not isinstance(known.get(key), str):
                known[key] = make()
                write_json(path, known)
            return str(known[key])

    def forget(self, key: str, place: Path | None = None) -> None:
        """Forget an identity that the tracker does not know, or no longer."""
        directory = (place or self.directory) / IDS
        with DirectoryLock(directory, wait=LOCK_SECONDS):
            known = read_json(directory / "ids.json", 1 << 20)
            known.pop(key, None)
            write_json(directory / "ids.json", known)

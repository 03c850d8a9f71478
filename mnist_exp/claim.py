"""A directory for each run and each sweep, locked while its process lives."""

from __future__ import annotations

import atexit
import json
from pathlib import Path

from omegaconf import DictConfig, read_write

from mnist_exp.errors import UserError
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from mnist_exp.run.saved_config import as_typed, resume_command

_locks: list[DirectoryLock] = []  # held until the process ends


def claim(config: DictConfig, kind: str) -> Path:
    """Make the directory of a run or sweep; one that others use already gets a number behind it.

    Parameters
    ----------
    config : DictConfig
        With Hydra's part; ``hydra.<kind>.dir`` is changed where the directory is taken.
    kind : {"run", "sweep"}
        Which directory.

    Raises
    ------
    UserError
        If the directory cannot be made, or was asked for by name and holds something or is in
        use.
    """
    wanted = Path(config.hydra[kind].dir)
    if kind == "sweep":  # its jobs may run in directories of their own
        wanted = wanted.absolute()
    named = any(o.startswith(f"hydra.{kind}.dir=") for o in as_typed(config.hydra.overrides.hydra))
    try:
        if named:
            wanted.mkdir(parents=True, exist_ok=True)
            directory = wanted
        else:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            directory = _make_unused(wanted)
        _check_unused(directory, kind)  # before the lock leaves its file there
    except OSError as error:
        raise UserError(
            f"hydra.{kind}.dir={wanted}: cannot be made ({error.strerror}). Give a directory "
            f"that you may write to: hydra.{kind}.dir=DIR."
        ) from error
    hold(directory)
    _check_unused(directory, kind)  # another run may have come and gone before the lock was free
    use_directory(config, kind, directory)
    return directory


def _check_unused(directory: Path, kind: str) -> None:
    if any(entry.name != LOCK_FILE for entry in directory.iterdir()):
        raise UserError(
            f"hydra.{kind}.dir={directory}: holds files already; give a new or empty directory, "
            f"or go on with what it holds: {resume_command(directory, kind)}"
        )


def _make_unused(wanted: Path) -> Path:
    number = 1
    while True:
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            directory.mkdir()  # fails if it is there: of two that try, one wins
        except FileExistsError:
            number += 1
        else:
            return directory


def use_directory(config: DictConfig, kind: str, directory: Path) -> None:
    """Let Hydra use ``directory``, also in the configurations it composes for a sweep's jobs."""
    with read_write(config):
        config.hydra[kind].dir = str(directory)
        config.hydra.overrides.hydra.append(f"hydra.{kind}.dir={json.dumps(str(directory))}")


def hold(directory: Path) -> None:
    """Lock a directory until the process ends."""
    lock = DirectoryLock(directory)
    _locks.append(lock)
    atexit.register(lock.release)


def run_lock() -> DirectoryLock:
    """Return the lock of the run's directory."""
    return _locks[-1]

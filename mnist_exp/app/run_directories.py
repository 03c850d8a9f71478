"""A directory for each run and each sweep, locked while its process lives."""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, read_write

from mnist_exp.errors import UserError
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from mnist_exp.run.saved_config import as_typed, resume_command


@dataclass
class Claim:
    """A directory that was empty or not there, and what was made for the run or sweep in it.

    Attributes
    ----------
    directory : Path
        Absolute.
    hydra_subdir : str or None
        Where Hydra puts its files in it.
    made : list of Path
        Directories that were not there before, parents first.
    made_lock : bool
        Whether the lock's file was not there before.
    """

    directory: Path
    hydra_subdir: str | None
    made: list[Path] = field(default_factory=list)
    made_lock: bool = False

    def make(self, directory: Path) -> None:
        """Make a directory and those of its parents that are not there."""
        for path in reversed([directory, *directory.parents]):
            if not path.exists():
                with contextlib.suppress(FileExistsError):  # another run was faster
                    self.make_new(path)

    def make_new(self, directory: Path) -> None:
        """Make a directory; FileExistsError if it is there."""
        directory.mkdir()
        self.made.append(directory)

    def unmake(self) -> None:
        """Remove the directories made and the lock's file; what holds something else stays."""
        if self.made_lock:
            (self.directory / LOCK_FILE).unlink(missing_ok=True)
        for path in reversed(self.made):
            with contextlib.suppress(OSError):
                path.rmdir()

    def give_back(self) -> bool:
        """Remove what was made, Hydra's files too, unless the run wrote more; say whether."""
        entries = list(self.directory.iterdir()) if self.directory.is_dir() else []
        hydra_files = [path for path in entries if path.name == self.hydra_subdir]
        if any(path.name != LOCK_FILE for path in entries if path not in hydra_files):
            return False
        for path in hydra_files:
            shutil.rmtree(path, ignore_errors=True)
        self.unmake()
        return True


_locks: list[DirectoryLock] = []  # held until the process ends
_in_use: dict[str, Path] = {}  # what is locked, by kind
_claims: list[Claim] = []


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
        use. No directory that was made stays.
    """
    wanted = Path(config.hydra[kind].dir)
    if kind == "sweep":  # its jobs may run in directories of their own
        wanted = wanted.absolute()
    hydra_subdir = OmegaConf.select(config, "hydra.output_subdir") if kind == "run" else None
    claimed = Claim(wanted.absolute(), hydra_subdir)
    try:
        directory = _take(config, kind, wanted, claimed)
    except BaseException:
        claimed.unmake()
        raise
    _claims.append(claimed)
    use_directory(config, kind, directory)
    return directory


def _take(config: DictConfig, kind: str, wanted: Path, claimed: Claim) -> Path:
    named = any(o.startswith(f"hydra.{kind}.dir=") for o in as_typed(config.hydra.overrides.hydra))
    try:
        if named:
            claimed.make(claimed.directory)
            directory = wanted
        else:
            directory = _make_unused(wanted, claimed)
        _check_unused(directory, kind)  # before the lock leaves its file there
        lock_was_there = (directory / LOCK_FILE).exists()
    except OSError as error:
        raise UserError(
            f"hydra.{kind}.dir={wanted}: cannot be made ({error.strerror}). Give a directory "
            f"that you may write to: hydra.{kind}.dir=DIR."
        ) from error
    hold(directory, kind)
    _check_unused(directory, kind)  # another run may have come and gone before the lock was free
    claimed.made_lock = not lock_was_there
    return directory


def _check_unused(directory: Path, kind: str) -> None:
    if any(entry.name != LOCK_FILE for entry in directory.iterdir()):
        raise UserError(
            f"hydra.{kind}.dir={directory}: holds files already; give a new or empty directory, "
            f"or go on with what it holds: {resume_command(directory, kind)}"
        )


def _make_unused(wanted: Path, claimed: Claim) -> Path:
    number = 1
    while True:
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        claimed.directory = directory.absolute()
        claimed.make(claimed.directory.parent)
        try:
            claimed.make_new(claimed.directory)  # fails if it is there: of two that try, one wins
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # a parent is gone: another run gave it back
            continue
        else:
            return directory


def use_directory(config: DictConfig, kind: str, directory: Path) -> None:
    """Let Hydra use ``directory``, also in the configurations it composes for a sweep's jobs."""
    with read_write(config):
        config.hydra[kind].dir = str(directory)
        config.hydra.overrides.hydra.append(f"hydra.{kind}.dir={json.dumps(str(directory))}")


def hold(directory: Path, kind: str = "run") -> None:
    """Lock the directory of a run or sweep until the process ends."""
    lock = DirectoryLock(directory)
    _locks.append(lock)
    _in_use[kind] = directory
    atexit.register(lock.release)


def run_lock() -> DirectoryLock:
    """Return the lock of the run's directory."""
    return _locks[-1]


def give_back() -> bool:
    """Remove what this process made for a run that wrote nothing; whether there was such a run."""
    return bool(_claims) and _claims[-1].give_back()


def command_to_go_on() -> str | None:
    """Return the command that goes on with the sweep or run of this process; None without one."""
    return next((resume_command(directory, kind) for kind, directory in _in_use.items()), None)

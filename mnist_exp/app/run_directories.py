"""A directory for each run and each sweep, locked while its process runs."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.foreign_targets import words_to_allow
from mnist_exp.app.sweep.overrides import is_plain
from mnist_exp.errors import UserError
from mnist_exp.run.command_line import literal, override, resume_command
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from mnist_exp.run.saved_config import as_typed, writable


@dataclass
class Claim:
    """A directory held by a command, and what the command created for it.

    Attributes
    ----------
    wanted : Path
        The directory as named on the command line.
    kind : {"run", "sweep"}
        Whether it holds a run or a sweep.
    lock : DirectoryLock or None
        The directory's lock, once it is held.
    hydra_subdir : str or None
        Sub-directory of Hydra's files.
    config : DictConfig or None
        The configuration of the run or sweep, with Hydra's part; None if it is unknown.
    made : list of Path
        Directories created, parents first.
    made_lock : bool
        Whether the lock file was created.
    directory : Path
        ``wanted`` as an absolute path, since Hydra may change the working directory.
    """

    wanted: Path
    kind: str
    lock: DirectoryLock | None = None
    hydra_subdir: str | None = None
    config: DictConfig | None = None
    made: list[Path] = field(default_factory=list)
    made_lock: bool = False
    directory: Path = field(init=False)

    def __post_init__(self) -> None:
        self.directory = self.wanted.absolute()

    def make(self, directory: Path) -> None:
        """Make a directory and its missing parents."""
        for path in reversed([directory, *directory.parents]):
            if not path.exists():
                with contextlib.suppress(FileExistsError):  # another run was faster
                    self.make_new(path)

    def make_new(self, directory: Path) -> None:
        """Make a directory; raise FileExistsError if it exists."""
        directory.mkdir()
        self.made.append(directory)

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def unmake(self) -> None:
        """Remove the lock file and directories it created; directories with other files stay."""
        if self.made_lock:
            if sys.platform == "win32":  # which deletes no open file
                self.release()
            (self.directory / LOCK_FILE).unlink(missing_ok=True)
        for path in reversed(self.made):
            with contextlib.suppress(OSError):
                path.rmdir()

    def give_back(self) -> bool:
        """Remove what was made and Hydra's files; return False if the run wrote anything else."""
        entries = list(self.directory.iterdir()) if self.directory.is_dir() else []
        hydra_files = [path for path in entries if path.name == self.hydra_subdir]
        if any(path.name != LOCK_FILE for path in entries if path not in hydra_files):
            return False
        for path in hydra_files:
            shutil.rmtree(path, ignore_errors=True)
        self.unmake()
        return True

    def command_to_go_on(self) -> str:
        """Return the command that resumes the run or sweep."""
        return resume_command(self.wanted, self.kind, self._words())

    def _words(self) -> list[str]:
        if self.config is None:
            return []
        typed = as_typed(self.config.hydra.overrides.task)
        if self.kind == "sweep" and not all(map(is_plain, typed)):
            return ["trust=true"]
        return words_to_allow(self.config)


# Hydra's callback claims a directory but cannot pass the claim to the job.
_CLAIMS: ContextVar[list[Claim]] = ContextVar("claims")


@contextlib.contextmanager
def claims() -> Iterator[list[Claim]]:
    """Release the locks of directories claimed in the block at its end; yield the claims."""
    claimed: list[Claim] = []
    token = _CLAIMS.set(claimed)
    try:
        yield claimed
    finally:
        _CLAIMS.reset(token)
        for each in claimed:
            each.release()


def run_claim() -> Claim:
    """Return the claim of this command's run."""
    claimed = _CLAIMS.get()
    if not claimed:
        raise UserError(
            "hydra.callbacks.directories is missing, which makes the run directory; leave it in."
        )
    return claimed[-1]


def claim(config: DictConfig, kind: str) -> Claim:
    """Make and lock the directory of a run or sweep; if the name is taken, append a number.

    Parameters
    ----------
    config : DictConfig
        With Hydra's part; ``hydra.<kind>.dir`` is set to the directory made.
    kind : {"run", "sweep"}
        Which directory.

    Returns
    -------
    Claim
        The caller gives it back if the run or sweep never starts.

    Raises
    ------
    UserError
        If the directory cannot be made, or was given by name and is in use or not empty. New
        directories are removed again.
    """
    wanted = Path(config.hydra[kind].dir)
    if kind == "sweep":  # its jobs may have other working directories
        wanted = wanted.absolute()
    if "${" in str(wanted):  # Hydra resolves interpolations in it once more
        raise UserError(f"hydra.{kind}.dir={wanted}: allowed is a name without ${{.")
    hydra_subdir = OmegaConf.select(config, "hydra.output_subdir") if kind == "run" else None
    named = any(o.startswith(f"hydra.{kind}.dir=") for o in as_typed(config.hydra.overrides.hydra))
    claimed = claim_directory(wanted, kind, named, hydra_subdir)
    claimed.config = config
    _CLAIMS.get().append(claimed)
    use_directory(config, kind, claimed.wanted)
    return claimed


def claim_directory(
    wanted: Path, kind: str, named: bool, hydra_subdir: str | None = None, key: str | None = None
) -> Claim:
    """Make and lock a directory; if it is not ``named`` by the user, append a number if taken.

    ``key`` is what the messages call the directory; None: ``hydra.<kind>.dir``. The caller releases
    the lock. Raises as `claim`.
    """
    claimed = Claim(wanted, kind, hydra_subdir=hydra_subdir)
    try:
        _take(claimed, named, key or f"hydra.{kind}.dir")
    except BaseException:
        claimed.release()
        claimed.unmake()
        raise
    return claimed


def _take(claimed: Claim, named: bool, key: str) -> None:
    wanted = claimed.wanted
    try:
        if named:
            claimed.make(claimed.directory)
        else:
            _make_unused(claimed)
        _check_unused(claimed, key)  # before the lock leaves its file there
        lock_was_there = (claimed.directory / LOCK_FILE).exists()
    except OSError as error:
        raise UserError(
            f"{key}={wanted}: cannot be made ({error.strerror}). Give a directory that you may "
            f"write to: {key}=DIR."
        ) from error
    claimed.lock = DirectoryLock(claimed.wanted)
    _check_unused(claimed, key)  # another run may have used it before the lock was free
    claimed.made_lock = not lock_was_there


def _check_unused(claimed: Claim, key: str) -> None:
    if any(entry.name != LOCK_FILE for entry in claimed.directory.iterdir()):
        raise UserError(
            f"{key}={claimed.wanted}: holds files already; give a new or empty "
            f"directory, or continue what it holds: {claimed.command_to_go_on()}"
        )


def _make_unused(claimed: Claim) -> None:
    wanted, number = claimed.wanted, 1
    while True:
        if number > 1:
            claimed.wanted = wanted.with_name(f"{wanted.name}-{number}")
            claimed.directory = claimed.wanted.absolute()
        claimed.make(claimed.directory.parent)
        try:
            claimed.make_new(claimed.directory)  # atomic: of two processes, only one succeeds
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # a parent is gone: another run gave it back
            continue
        else:
            return


def use_directory(config: DictConfig, kind: str, directory: Path) -> None:
    """Set Hydra's directory, also in the configurations it composes for a sweep's jobs."""
    with writable(config):
        config.hydra[kind].dir = literal(str(directory))
        config.hydra.overrides.hydra.append(override(f"hydra.{kind}.dir", directory))


def hold(config: DictConfig, directory: Path, kind: str = "run") -> Claim:
    """Lock the directory of a run or sweep to resume."""
    claimed = Claim(directory, kind, lock=DirectoryLock(directory), config=config)
    _CLAIMS.get().append(claimed)
    return claimed

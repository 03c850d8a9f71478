"""Exclusive lock on a directory; the lock ends with its process."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from mnist_exp.errors import UserError
from mnist_exp.files.regular import open_own, open_regular

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_FILE = ".lock"
# Size of the lock file while held; `give_room` frees it on a full disk.
RESERVED_BYTES = 1 << 16
HOLDER_BYTES = 200  # process and host, at the file's start


class Holder(NamedTuple):
    """The process that holds or last held a directory."""

    process: int
    host: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class DirectoryLock:
    """Exclusive lock on a directory, held until `release` or the end of the process.

    The operating system releases the lock of a killed process.

    Parameters
    ----------
    directory : Path
        Created if missing.
    wait : float
        Seconds to wait for another process to release it.

    Raises
    ------
    UserError
        If another process holds it, or the directory cannot be written to.
    """

    def __init__(self, directory: Path, wait: float = 0.5) -> None:
        try:
            self._file = _open_locked(directory, time.monotonic() + wait)
            holder = str(Holder(os.getpid(), socket.gethostname())).encode()
            self._file.seek(0)
            self._file.write(holder[:HOLDER_BYTES].ljust(RESERVED_BYTES))
        except OSError as error:
            raise UserError(
                f"{directory}: cannot be written to or locked ({error.strerror}). Give a "
                "directory on a disk with free space that you may write to."
            ) from error

    def give_room(self) -> None:
        """Free the lock file's reserved space, so a last message fits on a full disk."""
        with contextlib.suppress(OSError):
            self._file.truncate(HOLDER_BYTES)

    def release(self) -> None:
        """Release the lock."""
        self.give_room()
        self._file.close()

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def is_locked(directory: Path) -> bool:
    """Whether a living process holds the lock of ``directory``.

    Raises
    ------
    UserError
        If the lock file is not a regular file, for example a link.
    OSError
        If it cannot be read.
    """
    try:
        with open_regular(directory / LOCK_FILE, follow=False) as file:
            return not _try_lock(file, shared=True)
    except FileNotFoundError:
        return False


def last_holder(directory: Path) -> Holder | None:
    """Return the process that holds or last held the lock of ``directory``; None if unknown."""
    try:
        with open_regular(directory / LOCK_FILE, follow=False) as file:
            text = file.read(HOLDER_BYTES).decode(errors="replace").strip()
    except (OSError, UserError):
        return None
    found = re.fullmatch(r"process (\d+) on (.+)", text)
    return None if found is None else Holder(int(found[1]), found[2])


def _open_locked(directory: Path, deadline: float) -> IO[bytes]:
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        file = open_own(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        while not _try_lock(file, shared=False):
            if time.monotonic() > deadline:
                file.seek(0)  # Windows locks a byte further on
                holder = file.read(HOLDER_BYTES).decode(errors="replace").strip()
                file.close()
                raise UserError(
                    f"{directory}: is in use by {holder or 'another process'}. Wait until it "
                    "ends, or stop it."
                )
            time.sleep(0.02)  # another process's `is_locked` holds it briefly
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(directory / LOCK_FILE)):
                return file
        file.close()  # the last holder deleted the directory: try again


def _try_lock(file: IO[bytes], shared: bool) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(2 * RESERVED_BYTES)  # past the content: Windows blocks reads of locked bytes
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True

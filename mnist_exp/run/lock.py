"""One process at a time in a directory; a lock whose holder died is free."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from mnist_exp.errors import UserError
from mnist_exp.files.regular import open_own, open_regular

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_FILE = ".lock"
# While the lock is held its file takes this room, which `give_room` frees on a full disk.
RESERVED_BYTES = 1 << 16
HOLDER_BYTES = 200  # at the file's start: who holds it


class DirectoryLock:
    """The right to write into a directory, until `release` or the end of the process.

    The operating system holds the lock, so a killed process leaves none behind.

    Parameters
    ----------
    directory : Path
        Made if it is not there.
    wait : float
        Seconds to wait for another process to let go.

    Raises
    ------
    UserError
        If another process holds it, or the directory cannot be written to.
    """

    def __init__(self, directory: Path, wait: float = 0.5) -> None:
        try:
            self._file = _open_locked(directory, time.monotonic() + wait)
            holder = f"process {os.getpid()} on {socket.gethostname()}".encode()
            self._file.seek(0)
            self._file.write(holder[:HOLDER_BYTES].ljust(RESERVED_BYTES))
        except OSError as error:
            raise UserError(
                f"{directory}: cannot be written to or locked ({error.strerror}). Give a "
                "directory on a disk with free space that you may write to."
            ) from error

    def give_room(self) -> None:
        """Free the disk space of the lock's file, for a last message on a full disk."""
        with contextlib.suppress(OSError):
            self._file.truncate(HOLDER_BYTES)

    def release(self) -> None:
        """Let the next process in."""
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
        If the lock's file is something else, such as a link.
    OSError
        If it may not be read.
    """
    try:
        with open_regular(directory / LOCK_FILE, follow=False) as file:
            return not _try_lock(file, shared=True)
    except FileNotFoundError:
        return False


def _open_locked(directory: Path, deadline: float) -> IO[bytes]:
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        file = open_own(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        while not _try_lock(file, shared=False):
            if time.monotonic() > deadline:
                holder = file.read(HOLDER_BYTES).decode(errors="replace").strip()
                file.close()
                raise UserError(
                    f"{directory}: is in use by {holder or 'another process'}. Wait until it "
                    "ends, or stop it."
                )
            time.sleep(0.02)  # `is_locked` of a viewer holds it for an instant
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(directory / LOCK_FILE)):
                return file
        file.close()  # its last holder removed the directory: this file is nobody's any more


def _try_lock(file: IO[bytes], shared: bool) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(2 * RESERVED_BYTES)  # a byte nobody reads: Windows bars reading locked ones
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True

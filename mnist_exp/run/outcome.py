"""Record how a run ends in results.json: its status and the reason for a failure."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.interruption import Interrupted
from mnist_exp.run.command_line import resume_command
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.results import write_results

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# torch's messages: on the CPU, on CUDA and MPS, and oneDNN's in a convolution
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "could not create a primitive")


@contextlib.contextmanager
def recorded_outcome(
    directory: Path, results: dict[str, Any], lock: DirectoryLock | None
) -> Iterator[Callable[[], float]]:
    """Write ``results`` with status "running", and again with the final status after the block.

    Yields a function that returns the run's ``wall_seconds`` so far, with those before a resume.

    Parameters
    ----------
    directory : Path
        The run directory.
    results : dict
        Content of results.json; the block adds to it.
    lock : DirectoryLock or None
        The directory's lock; on a full disk its reserve makes room for the reason.

    Raises
    ------
    UserError
        For environment errors: disk full, read-only directory, out of memory.
    """
    started = time.perf_counter()

    before = results.get("wall_seconds", 0.0)

    def elapsed() -> float:
        return before + time.perf_counter() - started

    def end(status: str, error: str | None = None) -> None:
        results.update(status=status, wall_seconds=elapsed())
        if error is not None:
            results["error"] = error
        write_results(directory, results)

    try:
        results["status"] = "running"
        write_results(directory, results)
        yield elapsed
        end("completed")
    except Interrupted as interruption:
        end("interrupted", f"stopped by {interruption}")
        raise
    except KeyboardInterrupt:
        end("interrupted", "stopped at once by a second SIGINT")
        raise
    except Exception as error:
        reason = explain(error, directory)
        if lock is not None:
            lock.give_room()
        # on a disk that is still full, the run shows as dead and the error below gives the reason
        with contextlib.suppress(OSError):
            end("failed", reason or f"{type(error).__name__}: {error}")
        if reason is None or isinstance(error, UserError):
            raise
        raise UserError(reason) from error


def explain(error: Exception, directory: Path) -> str | None:
    """Return a message with a remedy for an environment error; None for a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        where, again = error.filename or directory, resume_command(directory)
        if error.errno in FULL:
            return (
                f"{where}: the disk is full ({error.strerror}). Files written before are intact. "
                f"Free some space, then continue with: {again}"
            )
        return f"{where}: {error.strerror or error}. Fix it, then continue with: {again}"
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return (
            f"out of memory ({(text or 'MemoryError').splitlines()[0]}). Lower "
            "training.eval_batch_size, training.batch_size or cv.n_jobs, or free some memory."
        )
    return None

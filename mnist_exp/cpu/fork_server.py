"""Start of the fold processes: on Linux, forks of a server with all imports done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING

from mnist_exp.cpu.cores import cores
from mnist_exp.interruption import STOPPING

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

    if sys.platform == "win32":
        Context = SpawnContext
    else:
        from multiprocessing.context import ForkServerContext

        Context = ForkServerContext | SpawnContext

# torch._dynamo: the first torch optimizer imports it, which takes a second
IMPORTED = ("mnist_exp.app.hydra_app", "mnist_exp.experiment.fold_processes", "torch._dynamo")


def start_early() -> None:
    """Start the server's imports, which take seconds, if a second core is free for them."""
    if sys.platform == "linux" and cores() > 1:
        process_context()


def process_context() -> Context:
    """Return the multiprocessing context that starts the fold processes.

    A fork of the server starts at once, where a new interpreter needs seconds to import torch. It
    is also safe, where a fork of a process that has used torch may hang on torch's threads. Only
    Linux forks: elsewhere, system libraries may not survive it, or there is no fork.

    The server blocks the stopping signals, since terminals and most job schedulers send them to
    the whole process group and the server must live to report how the folds end. Fold processes
    inherit the block and lift it with `take_signals`.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    resource_tracker.ensure_running()  # unblocks signals, so it must start first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def take_signals() -> None:
    """Unblock the stopping signals, which processes of the server start with blocked."""
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def kill() -> None:
    """Kill the server; the exit status of its forked processes is lost."""
    if sys.platform == "linux":
        from multiprocessing import forkserver

        server: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)

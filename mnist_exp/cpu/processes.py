"""How the processes of folds start: on Linux forked from a server that has everything imported."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING

from mnist_exp.interruption import STOPPING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

FORKS = sys.platform == "linux"  # elsewhere, libraries of the system may not survive a fork
# torch._dynamo: torch's optimizers import it when the first of them is made, which takes a second
IMPORTED = ("mnist_exp.app.hydra_app", "mnist_exp.experiment.fold_processes", "torch._dynamo")


def start_early() -> None:
    """Let the server begin its imports, which takes seconds, if there is a core for it."""
    if FORKS and len(os.sched_getaffinity(0)) > 1:
        process_context()


def process_context() -> ForkServerContext | SpawnContext:
    """Return what starts a process that trains a fold.

    A fork of the server is ready in no time, where a new interpreter takes seconds to import torch;
    and it is safe, where a fork of a process that has used torch may hang for its threads.

    A signal that goes to the whole group, as a terminal's and most job schedulers' do, does not end
    the server, which has to tell how the folds end. Their processes start with these signals
    blocked: see `take_signals`.
    """
    if not FORKS:
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    resource_tracker.ensure_running()  # it unblocks signals, and is the first thing to be started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def take_signals() -> None:
    """Let the stopping signals in, which the server's processes start without."""
    if FORKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def kill() -> None:
    """Kill the server; nobody is told any more how the processes that it forked end."""
    if FORKS:
        from multiprocessing import forkserver

        server: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)

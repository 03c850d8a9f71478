"""How the processes of folds start: on Linux forked from a server that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

FORKS = sys.platform == "linux"  # elsewhere, libraries of the system may not survive a fork
# torch._dynamo: torch's optimizers import it when the first of them is made, which takes a second
IMPORTED = ("mnist_exp.app", "mnist_exp.fold_processes", "torch._dynamo")


def start_early() -> None:
    """Let the server begin its imports, which takes seconds, if there is a core for it."""
    if FORKS and len(os.sched_getaffinity(0)) > 1:
        from multiprocessing import forkserver

        process_context()
        forkserver.ensure_running()


def process_context() -> ForkServerContext | SpawnContext:
    """Return what starts a process that trains a fold.

    A fork of the server is ready in no time, where a new interpreter takes seconds to import torch;
    and it is safe, where a fork of a process that has used torch may hang for its threads.
    """
    if not FORKS:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context

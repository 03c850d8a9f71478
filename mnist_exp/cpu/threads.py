"""CPU threads of torch for a block of code, and parallel work in Python threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TypeVar

import torch

from mnist_exp.cpu.cores import cores
from mnist_exp.wording import counted

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below this many elements one thread finishes before others would wake up.
SMALL = 2**18


_here = threading.local()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` CPU threads in a block.

    The setting is per Python thread, but a thread that first uses torch during the block inherits
    it unless it calls `settle_threads`.
    """
    before = _blocks.begin()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _blocks.end()


class _Blocks:
    """Active blocks of `cpu_threads` over all Python threads, and the count outside them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.under_way = 0
        self.outside = 0

    def begin(self) -> int:
        """Register a block and return this Python thread's number of CPU threads."""
        with self.lock:
            before = torch.get_num_threads()
            if self.under_way == 0:
                self.outside = before
            self.under_way += 1
        return before

    def end(self) -> None:
        """Unregister a block."""
        with self.lock:
            self.under_way -= 1


_blocks = _Blocks()


def settle_threads() -> None:
    """Give a new Python thread the number of CPU threads that torch uses outside of blocks.

    torch starts it with the last number set, even by a `cpu_threads` block of another thread, and
    the sums in some products depend on that number. Call before any computation.
    """
    if not getattr(_here, "settled", False):
        with _blocks.lock:
            if _blocks.under_way:
                torch.set_num_threads(_blocks.outside)
            else:
                torch.get_num_threads()  # adopts the current number
        _here.settled = True


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread in a block of operations too small to wake others for.

    The compiled kernels, whose threads stay awake, still use all `available` ones.
    """
    outer = getattr(_here, "available", None)
    before = _blocks.begin()
    _here.available = outer or before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _blocks.end()
        _here.available = outer


def available() -> int:
    """Return the caller's number of CPU threads: torch's, as it is outside of `one_thread`."""
    return getattr(_here, "available", None) or torch.get_num_threads()


def threads_for(elements: int) -> AbstractContextManager[None]:
    """Return `one_thread` for fewer than ``SMALL`` elements, else a block that changes nothing."""
    return one_thread() if elements < SMALL else nullcontext()


def overload(threads: int, jobs: int, given: Mapping[str, object]) -> str | None:
    """Return a warning if there are at least twice as many threads as cores, else None.

    Parameters
    ----------
    threads : int
        CPU threads per training.
    jobs : int
        Trainings run in parallel.
    given : mapping
        Responsible settings by name; the message omits those that are None.
    """
    there = cores()
    if threads * jobs < 2 * there:
        return None
    settings = " ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    trainings = f"{jobs} folds side by side with " if jobs > 1 else ""
    return (
        f"{settings or 'torch'} asks for {trainings}{counted(threads, 'CPU thread')} on "
        f"{counted(there, 'core')}, where they wait for each other; {there} in all would be many "
        "times faster"
    )


@cache
def workers(count: int) -> ThreadPoolExecutor:
    """Return a pool of ``count`` Python threads that lasts as long as the process."""
    return ThreadPoolExecutor(count, thread_name_prefix="torch work")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to each item in parallel: the first in this thread, the rest in workers.

    Returns or raises only after all work has ended.
    """
    first, *others = items
    waiting = [workers(len(others)).submit(work, other) for other in others]
    try:
        result = work(first)
    finally:
        wait(waiting)
    return [result, *(one.result() for one in waiting)]


if hasattr(os, "register_at_fork"):  # a forked process has no copies of these threads
    os.register_at_fork(after_in_child=workers.cache_clear)
    os.register_at_fork(after_in_child=_blocks.__init__)  # type: ignore[misc]

"""How many CPU threads torch uses for a piece of work, and threads for pieces side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tensors with fewer elements are worked through sooner by one thread than others are woken up.
SMALL = 2**18


_here = threading.local()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` CPU threads in a block.

    The number is the Python thread's own, but another one that uses torch for the first time
    meanwhile starts with it, unless it calls `settle_threads`.
    """
    before = _blocks.begin()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _blocks.end()


class _Blocks:
    """Blocks of `cpu_threads` under way in all Python threads; the number outside of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.under_way = 0
        self.outside = 0

    def begin(self) -> int:
        """Count a block in and return this Python thread's number of CPU threads."""
        with self.lock:
            before = torch.get_num_threads()
            if self.under_way == 0:
                self.outside = before
            self.under_way += 1
        return before

    def end(self) -> None:
        """Count a block out."""
        with self.lock:
            self.under_way -= 1


_blocks = _Blocks()


def settle_threads() -> None:
    """Let a Python thread that is new use as many CPU threads as torch does outside of blocks.

    torch gives it the number that was set last, be it for a block of another Python thread; and
    the sums in some products depend on that number. To be called before anything is computed.
    """
    if not getattr(_here, "settled", False):
        with _blocks.lock:
            if _blocks.under_way:
                torch.set_num_threads(_blocks.outside)
            else:
                torch.get_num_threads()  # takes over the number of now
        _here.settled = True


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread in a block of small operations, for which it would wake others.

    The compiled kernels, whose threads need no waking up, go on to use what is `available`.
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
    """Return how many CPU threads there are for the caller: torch's, outside of `one_thread`."""
    return getattr(_here, "available", None) or torch.get_num_threads()


def threads_for(elements: int) -> AbstractContextManager[None]:
    """Return a block in one thread for work on few elements, else in all that torch uses now."""
    return one_thread() if elements < SMALL else nullcontext()


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def overload(threads: int, jobs: int, given: Mapping[str, object]) -> str | None:
    """Say what to change where threads are twice as many as cores, or more; else None.

    Parameters
    ----------
    threads : int
        CPU threads of a training.
    jobs : int
        Trainings side by side.
    given : mapping
        The settings that ask for that many, by name; those that are None are not named.
    """
    there = cores()
    if threads * jobs < 2 * there:
        return None
    settings = " ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    trainings = f"{jobs} folds side by side with " if jobs > 1 else ""
    return (
        f"{settings or 'torch'} asks for {trainings}{threads} CPU thread(s) on {there} core(s), "
        f"where they wait for each other; {there} in all would be many times faster"
    )


@cache
def workers(count: int) -> ThreadPoolExecutor:
    """Return ``count`` Python threads that live as long as the process."""
    return ThreadPoolExecutor(count, thread_name_prefix="torch work")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what ``work`` makes of each item: the first in this thread, the others in workers.

    Whatever fails, no work goes on in the background.
    """
    first, *others = items
    waiting = [workers(len(others)).submit(work, other) for other in others]
    try:
        result = work(first)
    finally:
        wait(waiting)
    return [result, *(one.result() for one in waiting)]


if hasattr(os, "register_at_fork"):  # threads do not live on in a forked process
    os.register_at_fork(after_in_child=workers.cache_clear)
    os.register_at_fork(after_in_child=_blocks.__init__)  # type: ignore[misc]

"""How many CPU threads torch uses for a piece of work, and threads for pieces side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
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

    A Python thread that uses torch for the first time meanwhile keeps this number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread in a block of small operations, for which it would wake others.

    The compiled kernels, whose threads need no waking up, go on to use what is `available`.
    """
    outer = getattr(_here, "available", None)
    _here.available = available()
    try:
        with cpu_threads(1):
            yield
    finally:
        _here.available = outer


def available() -> int:
    """Return how many CPU threads there are for the caller: torch's, outside of `one_thread`."""
    return getattr(_here, "available", None) or torch.get_num_threads()


def threads_for(elements: int) -> AbstractContextManager[None]:
    """Return a block in one thread for work on few elements, else in all that torch uses now."""
    return one_thread() if elements < SMALL else nullcontext()


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

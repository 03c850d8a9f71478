"""A thread that does slow work in order, so that training never waits for it."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from mnist_exp.interruption import STOPPING

PAUSE = 1.0  # seconds between two looks at the queue: waking up for every row would slow training
MOST = 100_000  # tasks waiting; about 30 MB of rows

Task = tuple[str, tuple[Any, ...]]  # a kind of work and its arguments


class Worker:
    """Do tasks in the order they were added, in a thread.

    Parameters
    ----------
    work : callable
        Called with each task's kind and a list of arguments: those of one task, or of several of
        kind "log" in a row. After an exception nothing more is done.
    fail : callable
        Called once with the exception.
    name : str
        Of the thread.
    """

    def __init__(
        self,
        work: Callable[[str, list[tuple[Any, ...]]], None],
        fail: Callable[[Exception], None],
        name: str,
    ) -> None:
        self.dropped = 0
        self.failed = False
        self._work = work
        self._fail = fail
        self._tasks: deque[Task] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, kind: str, *arguments: Any) -> None:
        """Queue a task; drop it after a failure, or if too many are waiting."""
        if self.failed:
            return
        if len(self._tasks) >= MOST:
            self.dropped += 1
        else:
            self._tasks.append((kind, arguments))

    def stop(self, seconds: float) -> bool:
        """Do what is waiting, at most for so long; return whether all was done."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.failed = True
            self._tasks.clear()
            return False
        return not self.failed

    def _run(self) -> None:
        if sys.platform != "win32":  # they are for the main thread to see at once
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        while True:
            stopping = self._stopping  # read first: tasks added before it was set are done
            try:
                self._do_waiting()
            except Exception as error:
                late = self.failed  # nobody waits for it any more
                self.failed = True
                self._tasks.clear()
                if not late:
                    self._fail(error)
                return
            if stopping or self.failed:
                return
            self._wake.wait(PAUSE)

    def _do_waiting(self) -> None:
        while self._tasks:
            kind, arguments = self._tasks.popleft()
            several = [arguments]
            if kind == "log":
                while self._tasks and self._tasks[0][0] == "log":
                    several.append(self._tasks.popleft()[1])
            self._work(kind, several)

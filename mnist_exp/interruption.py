"""Stop at the end of a batch on SIGINT, SIGTERM, SIGHUP, or when Slurm needs the node."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

CLOSING = "SIGHUP", "SIGBREAK"  # what a closing terminal sends; the second on Windows
STOPPING = (
    signal.SIGINT,
    signal.SIGTERM,
    *(getattr(signal, name) for name in CLOSING if hasattr(signal, name)),
)
SUBMITTED = "SUBMITIT_EXECUTOR" in os.environ  # whose local jobs get each Ctrl-C twice
# A job of submitit gets this one before Slurm preempts it, and queues itself again.
PREEMPTION = (
    getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"), None)
    if SUBMITTED
    else None
)
if PREEMPTION is not None:
    STOPPING = (*STOPPING, PREEMPTION)


class Interrupted(BaseException):
    """A signal stopped the work: training after its batch, other work at once.

    A BaseException, like KeyboardInterrupt, so that ``except Exception`` lets it pass.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.number = int(signal_number)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        return type(self), (self.number,)  # a sweep's workers pickle it


def queue_again(stop: Interrupted) -> None:
    """Let submitit queue this job again if Slurm needs its node; outside `StopSignals`.

    A function of this module, which reads the job's environment: submitit sends the caller with its
    globals as they are where the sweep was started.
    """
    if stop.number == PREEMPTION:
        signal.raise_signal(stop.number)  # to submitit's handler


class StopSignals:
    """Hold stop signals until `check`; a SIGINT after another signal stops at once.

    Signals ignored on entry, such as SIGHUP under `nohup`, stay ignored. Outside the main thread
    nothing is caught: Python handles signals in the main thread alone.

    Parameters
    ----------
    numbers : tuple of int
        The signals to catch.
    """

    def __init__(self, numbers: tuple[int, ...] = STOPPING) -> None:
        self.numbers = numbers
        self.received: int | None = None
        self._at_once = False
        self._first: Callable[[], object] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self.numbers:
            # None: a handler that was not set from Python, and could not be restored
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None and not SUBMITTED:
            raise KeyboardInterrupt
        if self.received is None or self.received != PREEMPTION:  # SIGTERM may follow that one
            self.received = number
        if self._at_once:
            self._first()
            raise Interrupted(number)

    def check(self) -> None:
        """Stop here if a signal has arrived.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    @contextlib.contextmanager
    def at_once(self, first: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Stop the block as soon as a signal arrives, or on entry if one already has.

        For long work that is repeated when the run resumes. ``first`` is called before a signal
        that arrives stops the block; a SIGINT stops ``first`` as well.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        before = self._at_once, self._first
        self._at_once, self._first = True, first
        try:
            if self.received is not None:
                raise Interrupted(self.received)
            yield
        finally:
            self._at_once, self._first = before

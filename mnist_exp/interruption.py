"""Ending on SIGINT, SIGTERM and SIGHUP at a batch's end instead of in the middle of it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

# A terminal that closes sends SIGHUP, which Windows does not have.
STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(BaseException):
    """Training was asked to stop by a signal; the batch under way was finished.

    Like KeyboardInterrupt it is no error, so that whoever handles errors lets it pass.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class StopSignals:
    """While entered, stopping signals are kept for `check`; a second SIGINT stops at once.

    Signals that were ignored before, as `nohup` has it for SIGHUP, stay ignored.

    Parameters
    ----------
    numbers : tuple of int
        The signals to catch.
    """

    def __init__(self, numbers: tuple[int, ...] = STOPPING) -> None:
        self.numbers = numbers
        self.received: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in self.numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
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
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        if self._at_once:
            raise Interrupted(number)

    def check(self) -> None:
        """Stop here if a signal came.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Stop wherever the block is as soon as a signal comes, or if one came before.

        For work that may take long, and that is done again when the run goes on.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        before, self._at_once = self._at_once, True
        try:
            if self.received is not None:
                raise Interrupted(self.received)
            yield
        finally:
            self._at_once = before

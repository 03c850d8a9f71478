"""Ending on SIGINT and SIGTERM at a batch's end instead of in the middle of it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupted(BaseException):
    """Training was asked to stop by a signal; the batch under way was finished.

    Like KeyboardInterrupt it is no error, so that whoever handles errors lets it pass.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class StopSignals:
    """While entered, SIGINT and SIGTERM are kept for `check`; a second SIGINT stops at once.

    Parameters
    ----------
    numbers : tuple of int
        The signals to catch.
    """

    def __init__(self, numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.numbers = numbers
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in self.numbers:
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

    def check(self) -> None:
        """Stop here if a signal came.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        if self.received is not None:
            raise Interrupted(self.received)

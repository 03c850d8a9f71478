"""Ending on SIGINT and SIGTERM at a batch's end instead of in the middle of it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from mnist_exp.train import Callback
from mnist_exp.training_state import TrainState


class Interrupted(Exception):
    """Training was asked to stop by a signal; the batch under way was finished."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class StopSignals(Callback):
    """While entered, the first SIGINT or SIGTERM stops after the batch, a second SIGINT at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
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

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """Stop here if a signal came.

        Raises
        ------
        Interrupted
            With the signal's number.
        """
        if self.received is not None:
            raise Interrupted(self.received)

"""What a run shows while it trains: lines, and on a terminal a bar with the time left."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Protocol, TextIO

from tqdm import tqdm

from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.wording import counted

LEAST_BAR = 12  # columns of the bar itself; numbers that leave it fewer are left out


class Display(Protocol):
    """Where the folds of a run report their progress.

    Attributes
    ----------
    interval : float
        Seconds between two calls of `advance`; infinite where there is no terminal.
    """

    interval: float

    def begin(self, steps: int, done: int) -> None:
        """Start a fold of ``steps`` optimizer steps, ``done`` of them before an interruption."""

    def advance(self, steps: int, heading: str, numbers: Sequence[str]) -> None:
        """Move the bar; ``numbers`` stand beside it, the most important first."""

    def shorten(self, steps: int) -> None:
        """Take off the steps of a fold that was stopped early."""

    def line(self, text: str) -> None:
        """Print a line above the bar."""

    def close(self) -> None:
        """Remove the bar from the terminal; the next `advance` draws it again."""


class Terminal:
    """A `Display` of a whole run in one process.

    Parameters
    ----------
    stream : TextIO or None
        None: standard output. The bar is drawn only on a terminal, and only in the main process,
        since other processes may print too.
    folds : int
        Folds that will begin.
    at_once : int
        Folds that train side by side; if several, no single one is the heading of the bar.
    job : SweepPlace or None
        The run is a job of a sweep: its place is the heading of the bar, and there are no lines. If
        this process trains all jobs, the bar is that of the sweep.
    """

    def __init__(
        self, stream: TextIO | None = None, *, folds: int = 1, at_once: int = 1,
        job: SweepPlace | None = None,
    ) -> None:  # fmt: skip
        self.stream = stream or sys.stdout
        self.folds = folds
        self.at_once = at_once
        self.job = job
        draws_bar = self.stream.isatty() and multiprocessing.parent_process() is None
        self.interval = 0.2 if draws_bar else float("inf")
        self.total = self.done = self.before = 0
        self.started: float | None = None
        self.bar: tqdm | None = None

    def begin(self, steps: int, done: int) -> None:
        """Start a fold."""
        self.total = max(self.total, self.folds * steps)
        self.before += done
        self.done += done
        self.started = self.started or time.time()

    def advance(self, steps: int, heading: str, numbers: Sequence[str]) -> None:
        """Move the bar, and draw it if there is a terminal."""
        self.done += steps
        if self.interval == float("inf"):
            return
        if self.bar is None:
            # the delay only keeps tqdm from drawing the bar before it is complete
            self.bar = tqdm(
                total=self.total, file=self.stream, leave=False, dynamic_ncols=True, smoothing=0,
                delay=1e-9,
            )  # fmt: skip
            self.bar.start_t = self.started
        if self.at_once > 1:
            heading, numbers = f"{counted(self.folds, 'fold')}, {self.at_once} at a time", ()
        total, done, before = float(self.total), float(self.done), float(self.before)
        if self.job is not None:
            heading = f"{self.job} {heading}"
            if self.job.alone and self.job.jobs is not None:
                total, done, before = self.job.jobs, self.job.number + done / total, self.job.first
                self.bar.start_t = self.job.started
        self.bar.total, self.bar.n, self.bar.initial = total, done, before
        self.bar.bar_format = bar_format(heading, numbers, self.bar.format_dict["ncols"] or 80)
        self.bar.refresh()

    def shorten(self, steps: int) -> None:
        """Take off steps."""
        self.total -= steps

    def line(self, text: str) -> None:
        """Print a line above the bar, unless this is a job of a sweep."""
        if self.job is None:
            with tqdm.external_write_mode(file=self.stream):
                print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class OfProcess:
    """A `Display` that sends everything to the run's process, whose `receive` shows it there."""

    interval = 0.5

    def __init__(self, sender: Connection) -> None:
        self.sender = sender

    def begin(self, steps: int, done: int) -> None:
        """Start a fold."""
        self._send("begin", steps, done)

    def advance(self, steps: int, heading: str, numbers: Sequence[str]) -> None:
        """Move the bar."""
        self._send("advance", steps, heading, numbers)

    def shorten(self, steps: int) -> None:
        """Take off steps."""
        self._send("shorten", steps)

    def line(self, text: str) -> None:
        """Print a line."""
        self._send("line", text)

    def close(self) -> None:
        """Do nothing: the bar is that of all folds."""

    def _send(self, method: str, *arguments: object) -> None:
        with contextlib.suppress(OSError):  # the run was killed; its folds notice by themselves
            self.sender.send((method, arguments))


def receive(receiver: Connection, display: Display) -> Exception | None:
    """Show what a fold's process has sent since; return the error it ended with, if any."""
    with contextlib.suppress(EOFError, OSError):  # the process ended, perhaps within a message
        while receiver.poll():
            message = receiver.recv()
            if isinstance(message, Exception):
                return message
            method, arguments = message
            getattr(display, method)(*arguments)
    return None


def bar_format(heading: str, numbers: Sequence[str], columns: int) -> str:
    """Return the format of a bar for tqdm, with as many of the numbers as leave it room."""
    fixed = len(heading) + len(" 100%|| 00:00:00 left")
    shown = ""
    for number in numbers:
        if fixed + len(shown) + len(number) + 2 + LEAST_BAR > columns:
            break
        shown += f", {number}"
    return f"{heading} {{percentage:3.0f}}%|{{bar}}| {{remaining}} left{shown}"

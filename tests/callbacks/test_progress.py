"""The bar has room at 80 columns and shows the whole run; without a terminal, lines alone."""

from __future__ import annotations

import fcntl
import io
import multiprocessing
import os
import re
import struct
import termios
import time
from collections.abc import Iterator
from functools import partial

import pytest

from mnist_exp.callbacks.display import LEAST_BAR, OfProcess, Terminal, receive
from mnist_exp.callbacks.progress import epoch_line
from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.train.metrics import expected_calibration_error, in_percent, top_k_accuracy

NUMBERS = ("accuracy 100.00%", "loss 12.3456", "123,456 samples/s", "10.00 ms/batch")
END_OF_TEXT = "\x03"


class Screen:
    """A pseudo-terminal of ``columns`` columns."""

    def __init__(self, columns: int) -> None:
        self.reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stream = os.fdopen(writer, "w", encoding="utf-8")

    def drawn(self) -> list[str]:
        """Return what was written since, split where the cursor goes back to the left.

        The kernel passes on what was written in pieces, so one read may return only the first.
        """
        self.stream.write(END_OF_TEXT)
        self.stream.flush()
        written = b""
        while not written.endswith(END_OF_TEXT.encode()):
            written += os.read(self.reader, 1 << 20)
        text = written.decode().removesuffix(END_OF_TEXT)
        return [part for part in re.split(r"[\r\n]+", text) if part.strip()]

    def close(self) -> None:
        self.stream.close()
        os.close(self.reader)


@pytest.fixture(params=[80, 120])
def screen(request: pytest.FixtureRequest) -> Iterator[tuple[Screen, int]]:
    made = Screen(request.param)
    yield made, request.param
    made.close()


def test_a_bar_keeps_its_width_and_the_accuracy_whatever_the_heading(
    screen: tuple[Screen, int],
) -> None:
    terminal, columns = screen
    display = Terminal(terminal.stream, folds=10)
    display.begin(1000, 0)
    display.advance(2500, "fold 10 | epoch 10/10", NUMBERS)
    (bar,) = terminal.drawn()
    assert len(bar) < columns
    cells = bar.split("|")[2]
    assert len(cells) >= LEAST_BAR
    assert cells.count("█") == len(cells) // 4
    shown = [number for number in NUMBERS if number in bar]
    assert shown == list(NUMBERS[: {80: 1, 120: 3}[columns]])
    display.close()


def test_a_line_is_printed_above_the_bar() -> None:
    screen = Screen(80)
    display = Terminal(screen.stream)
    display.begin(10, 0)
    display.advance(1, "epoch 1/2", ())
    screen.drawn()
    display.line("epoch 1/2 | train loss 1")
    assert next(text.strip() for text in screen.drawn()) == "epoch 1/2 | train loss 1"
    display.close()
    screen.close()


def test_without_a_terminal_there_are_lines_alone() -> None:
    log = io.StringIO()
    display = Terminal(log)
    display.begin(10, 0)
    display.advance(10, "epoch 1/1", NUMBERS)
    display.line("epoch 1/1 | train loss 1")
    display.close()
    assert log.getvalue() == "epoch 1/1 | train loss 1\n"


def test_the_jobs_of_a_sweep_have_a_bar_with_their_place_and_no_lines() -> None:
    screen = Screen(80)
    display = Terminal(screen.stream, job=SweepPlace(1, 9))
    display.begin(10, 0)
    display.line("epoch 1/1")
    display.advance(5, "epoch 1/1", NUMBERS)
    (bar,) = screen.drawn()
    assert bar.startswith("[2/9] epoch 1/1  50%|")
    display.close()
    screen.close()


def test_where_one_process_trains_all_jobs_the_bar_is_that_of_the_sweep() -> None:
    """One and a half of ten jobs take 90 s, so the others take 510."""
    screen = Screen(80)
    place = SweepPlace(1, 10, alone=True, first=0, started=time.time() - 90)
    display = Terminal(screen.stream, job=place)
    display.begin(10, 0)
    display.advance(5, "epoch 1/1", NUMBERS)
    (bar,) = screen.drawn()
    assert bar.startswith("[2/10] epoch 1/1  15%|")
    assert "| 08:30 left, " in bar
    display.close()
    screen.close()


def test_folds_of_other_processes_move_one_bar_and_print_their_lines() -> None:
    """Steps trained before an interruption count as done, those of a stopped fold are taken off."""
    screen = Screen(80)
    display = Terminal(screen.stream, folds=2, at_once=2)
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
    first, second = (OfProcess(sender) for _, sender in pipes)
    first.begin(100, 50)
    second.begin(100, 0)
    first.advance(50, "fold 1 | epoch 2/2", NUMBERS)
    first.line("fold 1 | epoch 2/2 | train loss 1")
    second.shorten(50)
    second.advance(25, "fold 2 | epoch 1/2", NUMBERS)
    pipes[1][1].send(RuntimeError("a bug"))
    errors = [receive(receiver, display) for receiver, _ in pipes]
    drawn = screen.drawn()
    assert "fold 1 | epoch 2/2 | train loss 1" in [text.strip() for text in drawn]
    assert drawn[-1].startswith("2 folds, 2 at a time  83%|")  # 125 of 150 steps
    assert errors[0] is None
    assert str(errors[1]) == "a bug"
    for receiver, sender in pipes:
        receiver.close()
        sender.close()
    second.line("nobody listens")  # the run was killed: no error
    display.close()
    screen.close()


def test_an_epochs_line_says_which_loss_was_trained_with() -> None:
    row = {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.9, "test_loss": 0.25,
           "test_accuracy": 0.95, "seconds": 1.0, "samples_per_second": 1000.0}  # fmt: skip
    assert epoch_line(row, 2, "labels smoothed by 0.1") == (
        "epoch 1/2 | train loss 0.5000 (labels smoothed by 0.1) accuracy 90.00% | "
        "test loss 0.2500 accuracy 95.00% | 1.0 s, 1,000 samples/s"
    )
    assert "(" not in epoch_line(row, 2)


def test_a_metric_that_is_a_share_reads_as_accuracy_does() -> None:
    row = {"epoch": 1, "validation_loss": 0.5, "validation_accuracy": 0.9, "validation_top2": 0.985,
           "validation_ece": 0.5, "seconds": 1.0, "samples_per_second": 1000.0}  # fmt: skip
    percent = in_percent({"top2": partial(top_k_accuracy, k=2), "ece": expected_calibration_error})
    assert "accuracy 90.00% top2 98.50% ece 0.5 |" in epoch_line(row, 1, percent=percent)

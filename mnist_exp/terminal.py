"""Standard output and error of a program that outlives whoever reads them."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_replaced: list[TextIO] = []  # whose end may close the file that is still written to


class DroppingFile(io.FileIO):
    """An open file or pipe to write to; what it does not take is dropped without an error.

    The reader may have gone, the terminal been closed, the disk be full.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``, as far as it goes, and return its length in bytes."""
        left = whole = memoryview(data).cast("B")
        while left:
            try:
                written = super().write(left)
            except OSError:
                break
            if written is None:  # full, and whoever made the pipe wants no write to wait
                select.select([], [self], [])
            else:
                left = left[written:]
        return len(whole)


def outlive_readers() -> None:
    """Let no write to standard output or error fail from now on in this process.

    Output that nobody takes is dropped, and what the encoding lacks is written as an escape. A
    standard stream that was closed at the start is connected to the null device, lest the next file
    that is opened receive what is meant for it. A stream that somebody else put in place, such as a
    notebook's, stays as it is.

    To be called before anything keeps ``sys.stdout``, as handlers of `logging` do.
    """
    _open_closed_descriptors()
    sys.stdout = _dropping(sys.stdout)
    sys.stderr = _dropping(sys.stderr)


def _open_closed_descriptors() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest that is free is what the system gives out
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _dropping(stream: TextIO | None) -> TextIO:
    if stream is None or stream.closed:
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper or not isinstance(_raw(stream), io.FileIO):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    _replaced.append(stream)
    file = DroppingFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        # unbuffered (python -u) is a text stream on the file itself
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: io.TextIOWrapper) -> object:
    return getattr(stream.buffer, "raw", stream.buffer)


def printable(text: object) -> str:
    r"""Return ``text`` on one line, with escapes such as ``\x1b`` for what a terminal would obey.

    These are control characters, marks that change the direction of writing, and bytes of file
    names that are no text.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def printable_lines(text: object) -> str:
    """Do the same for text of several lines."""
    return "\n".join(map(printable, str(text).split("\n")))

"""Keep the program running when a reader of its output goes away; print text safely."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_replaced: list[TextIO] = []  # kept alive: finalizing one may close a file still in use


class DroppingFile(io.FileIO):
    """A file or pipe whose failed writes are dropped silently.

    Writes fail if the reader has exited, the terminal is closed or the disk is full.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as much of ``data`` as possible and return the length of all of it in bytes."""
        left = whole = memoryview(data).cast("B")
        while left:
            try:
                written = super().write(left)
            except OSError:
                break
            if written is None:  # a non-blocking pipe that is full
                select.select([], [self], [])
            else:
                left = left[written:]
        return len(whole)


def outlive_readers() -> None:
    """Make writes to standard output and error never fail in this process.

    Output that cannot be written is dropped; characters the encoding lacks are escaped. Standard
    streams closed at start are connected to the null device; otherwise the next file opened would
    take their descriptor and receive their output. Replaced streams, such as a notebook's, stay.

    Call it before anything stores ``sys.stdout``, as `logging` handlers do.
    """
    _open_closed_descriptors()
    sys.stdout = _dropping(sys.stdout)
    sys.stderr = _dropping(sys.stderr)


def _open_closed_descriptors() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # open() takes the lowest free descriptor: this one
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
        # under python -u, the text stream wraps the raw file
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: io.TextIOWrapper) -> object:
    return getattr(stream.buffer, "raw", stream.buffer)


def printable(text: object) -> str:
    r"""Return ``text`` on one line, with unprintable characters as escapes such as ``\x1b``.

    These are control characters, which a terminal would obey, marks that change the writing
    direction, and undecodable bytes of file names.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def printable_lines(text: object) -> str:
    """Apply `printable` to each line of ``text``."""
    return "\n".join(map(printable, str(text).split("\n")))

"""A page is no result: a fault in one warns, and the run or sweep goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from mnist_exp.run.command_line import command
from mnist_exp.terminal import printable


@contextlib.contextmanager
def only_warned(directory: Path) -> Iterator[None]:
    """Turn an exception of the block, which writes a directory's page, into a line on stderr.

    The block should also import what writes the page, so that a missing package only warns.
    """
    try:
        yield
    except Exception as error:
        again = command("report", str(directory))
        line = (
            f"warning: the page of {directory} is not up to date: {error!r}. To write it: {again}"
        )
        print(printable(line), file=sys.stderr)

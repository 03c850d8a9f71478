"""Reader of images as rows of CSV: a label, then the pixels, as in MNIST's well-known copies."""

from __future__ import annotations

import gzip
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.data.idx import open_unpacked
from mnist_exp.errors import UserError
from mnist_exp.files.regular import check_memory

ROWS = 1000  # parsed at once
LONGEST_LINE = 1 << 24  # bytes, more than five million pixels take
SEPARATORS = {";": "semicolons", "\t": "tabs", " ": "spaces"}


def load_csv(
    train_file: str | Path,
    test_file: str | Path,
    *,
    image_shape: Sequence[int] | None = None,
    name: str | None = None,
) -> Dataset:
    """Load two CSV files, each ``.gz`` or not, a row an image: its label, then its pixels.

    Parameters
    ----------
    train_file, test_file : str or Path
        With or without a row of column names.
    image_shape : sequence of int, optional
        Height and width, or channels, height and width of the pixels in a row; None: they are a
        square, grey or else of three channels.
    name : str, optional
        The data set's name; by default that of the training file.

    Raises
    ------
    UserError
        If a file cannot be read, or a row is not a label and pixels from 0 to 255; the message
        names file, line and column.
    """
    train_path, test_path = (Path(file).expanduser() for file in (train_file, test_file))
    train, test = (_read(path, image_shape) for path in (train_path, test_path))
    return pool(name or train_path.name.partition(".")[0], train, test)


def _read(path: Path, image_shape: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Return images [N, H, W] or [N, C, H, W], and labels [N]."""
    labels: list[npt.NDArray[np.int64]] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    with open_unpacked(path) as file:
        for first, lines in _blocks(path, file):
            columns = pixels[0].shape[1] + 1 if pixels else lines[0].count(",") + 1
            check_memory(path, len(lines) * columns * 9)  # parsed as int64, kept as bytes
            values = _parsed(lines, columns)
            if values is None:
                raise UserError(f"{path}, {_fault(first, lines, columns)}.")
            labels.append(values[:, 0])
            pixels.append(values[:, 1:].astype(np.uint8))
    if not pixels:
        raise UserError(f"{path}: holds no rows; expected one per image: a label, then pixels.")
    flat = torch.from_numpy(np.concatenate(pixels))
    shape = _image_shape(path, flat.shape[1], image_shape)
    return flat.reshape(len(flat), *shape), torch.from_numpy(np.concatenate(labels))


def _blocks(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the text of some lines; no column names."""
    lines = _lines(path, file)
    first = 1
    while block := list(islice(lines, ROWS)):
        start = 0
        if first == 1 and not block[0].split(",")[0].strip().strip('"').lstrip("+-").isdigit():
            _check_names(path, block[0])
            start = 1
        if block[start:]:
            yield first + start, block[start:]
        first += len(block)


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    """Yield the lines without their ends; those after the last row may be empty."""
    raw: Any = file if isinstance(file, gzip.GzipFile) else io.BufferedReader(file)
    empty = 0
    while line := raw.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise UserError(f"{path}: has a line of {LONGEST_LINE:,} bytes or more; is it a CSV?")
        text = line.decode("utf-8-sig", errors="replace").strip()
        if not text:
            empty += 1
            continue
        yield from [""] * empty
        empty = 0
        yield text


def _check_names(path: Path, names: str) -> None:
    """Refuse a first line that shows the file to be of another form."""
    columns = [name.strip().strip('"').lower() for name in names.split(",")]
    if len(columns) == 1:
        found = [word for sign, word in SEPARATORS.items() if sign in names]
        between = f" {found[0]} between its values;" if found else " one column;"
        raise UserError(f"{path}, line 1: has{between} expected commas: a label, then its pixels.")
    if "label" in columns[1:]:
        raise UserError(
            f"{path}, line 1: the label is column {columns.index('label', 1) + 1}; expected it to "
            "be the first, before the pixels. Reorder the columns."
        )


def _parsed(lines: Sequence[str], columns: int) -> npt.NDArray[np.int64] | None:
    """Return the rows [N, columns]; None if one is not a label and pixels from 0 to 255."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy would truncate fractions
            values = np.loadtxt(
                lines, np.int64, delimiter=",", ndmin=2, comments=None, quotechar='"'
            )
    except (ValueError, OverflowError, Warning):
        return None
    if values.shape != (len(lines), columns) or columns < 2:
        return None
    return values if values[:, 1:].min() >= 0 and values[:, 1:].max() <= 255 else None


def _fault(first: int, lines: Sequence[str], columns: int) -> str:
    """Say which line and column of these is wrong, and what was expected."""
    for number, line in enumerate(lines, first):
        fields = line.split(",")
        if columns < 2:
            found = [word for sign, word in SEPARATORS.items() if sign in line]
            between = f" {found[0]} between its values" if found else " one column"
            return f"line {number}: has{between}; expected commas: a label, then its pixels"
        if len(fields) != columns:
            return (
                f"line {number}: has {len(fields)} columns; expected {columns}, a label and "
                f"{columns - 1} pixels"
            )
        for column, field in enumerate(fields, 1):
            text = field.strip().strip('"').strip()
            whole = text.lstrip("+-").isascii() and text.lstrip("+-").isdigit()
            if column == 1 and not whole:
                return f"line {number}, column 1: {text!r} is not a label; expected a whole number"
            if column > 1 and not (whole and 0 <= int(text) <= 255):
                return (
                    f"line {number}, column {column}: {text!r} is not a pixel; expected a whole "
                    "number from 0 to 255"
                )
    return f"lines {first} to {first + len(lines) - 1}: cannot be read as whole numbers"


def _image_shape(path: Path, pixels: int, given: Sequence[int] | None) -> tuple[int, ...]:
    """Return [H, W] or [C, H, W] of images with this many pixels."""
    if given is not None:
        if math.prod(given) != pixels:
            raise UserError(
                f"{path}: has {pixels} pixels per image, data.image_shape={list(given)} has "
                f"{math.prod(given)}."
            )
        return tuple(given)
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if channels * side * side == pixels:
            return (side, side) if channels == 1 else (channels, side, side)
    raise UserError(
        f"{path}: has {pixels} pixels per image, which is not a square. Give height and width, "
        "such as data.image_shape=[16,20], or channels, height and width."
    )

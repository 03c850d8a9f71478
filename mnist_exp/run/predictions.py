"""predictions.npz: the class probabilities of every test image of a finished run.

A NumPy archive, not compressed (that took 15 times as long and saved a fifth), with a row a test
image, folds in order: ``fold`` int16 [N] (from 1), ``index`` int64 [N] (row of the data set),
``label`` int16 [N] and ``probabilities`` float32 [N, K].
"""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_atomic
from mnist_exp.files.regular import check_size, read_regular

NAME = "predictions.npz"
LARGEST = 1 << 30  # bytes; 70,000 images of ten classes take 3.6 MB
HEADERS = 4096  # bytes at most, of four arrays in an archive
DAMAGE = (ValueError, KeyError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Predictions:
    """What a run predicted for its test images.

    Attributes
    ----------
    fold : ndarray
        int [N], from 1; 1 for a single split.
    index : ndarray
        int [N], rows of the data set.
    label : ndarray
        int [N], true classes.
    probabilities : ndarray
        float32 [N, K], softmax of the logits.
    """

    fold: Array
    index: Array
    label: Array
    probabilities: Array

    @property
    def predicted(self) -> Array:
        """Most probable class, int [N]."""
        found: Array = self.probabilities.argmax(1)
        return found

    @property
    def confidence(self) -> Array:
        """Probability of the most probable class, float32 [N]."""
        found: Array = self.probabilities.max(1)
        return found


def joined(folds: Iterable[tuple[int, Array, Array, Array]]) -> Predictions:
    """Return predictions from the number, indices, labels and probabilities of each fold."""
    rows = [
        (
            np.full(len(index), fold, np.int16),
            index.astype(np.int64),
            label.astype(np.int16),
            shares,
        )
        for fold, index, label, shares in folds
    ]
    return Predictions(*map(np.concatenate, zip(*rows, strict=True)))


def write_predictions(directory: Path, predictions: Predictions) -> None:
    """Replace predictions.npz; where it would be too large to be read again, only warn."""
    size = sum(values.nbytes for values in vars(predictions).values()) + HEADERS
    if size > LARGEST:
        print(
            f"warning: {NAME} is not written: it would take {size:,} bytes, of {LARGEST:,} at "
            "most. report.predictions=false leaves it out.",
            file=sys.stderr,
        )
        return
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **vars(predictions))
    write_atomic(directory / NAME, content.getbuffer())


def read_predictions(directory: Path, num_classes: int) -> Predictions | None:
    """Read predictions.npz; None if it does not exist.

    Raises
    ------
    UserError
        If it is damaged, too large, or not of ``num_classes`` classes.
    """
    path = directory / NAME
    try:
        content = read_regular(path, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_size(path, sum(entry.file_size for entry in archive.infolist()), LARGEST)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = Predictions(*(arrays[name] for name in Predictions.__dataclass_fields__))
    except DAMAGE as error:
        raise UserError(f"{path}: is damaged ({error}).") from error
    if not _is_sound(found, num_classes):
        raise UserError(f"{path}: is damaged: not predictions of {num_classes} classes.")
    return found


def _is_sound(found: Predictions, num_classes: int) -> bool:
    columns = (found.fold, found.index, found.label)
    rows = len(found.probabilities) if found.probabilities.ndim else 0
    return (
        found.probabilities.shape == (rows, num_classes)
        and found.probabilities.dtype == np.float32
        and all(column.shape == (rows,) and column.dtype.kind == "i" for column in columns)
        and rows > 0
        and bool(np.isfinite(found.probabilities).all())
        and int(found.fold.min()) >= 1
        and int(found.index.min()) >= 0
        and 0 <= int(found.label.min()) <= int(found.label.max()) < num_classes
    )

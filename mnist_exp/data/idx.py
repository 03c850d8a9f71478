"""Reader of IDX, the file format of the MNIST family."""

import contextlib
import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.files.regular import check_memory, open_regular
from mnist_exp.wording import counted

IDX_UINT8 = 0x08  # type code of unsigned bytes, third byte of the magic number
LARGEST_GROWTH = 1032  # deflate's largest ratio, 1032:1 (zlib manual)
BLOCK = 1 << 20  # bytes read at once


def read_idx(path: Path, ndim: int) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped or not.

    Layout of the format: http://yann.lecun.com/exdb/mnist (two zero bytes, type code, number of
    dimensions, then each size as a big-endian uint32, then the values).

    Parameters
    ----------
    path : Path
        The file; decompressed if the name ends in ``.gz``.
    ndim : int
        Required number of dimensions: 3 for images, 1 for labels.

    Returns
    -------
    Tensor
        uint8, in the shape given by the header.

    Raises
    ------
    UserError
        If the file is missing, not IDX, of another type or rank, truncated or too long.
    """
    start = 4 + 4 * ndim
    with _open(path) as file:
        shape = _read_header(path, _read(file, start), ndim)
        promised = math.prod(shape)
        check_promise(path, promised)
        values = _read(file, promised + 1)  # one extra byte, to detect a longer file
    if len(values) != promised:
        held = f"more than {promised}" if len(values) > promised else len(values)
        raise UserError(
            f"{path}: the header promises {promised} bytes of values (shape {shape}), "
            f"the file holds {held}. It is truncated or damaged; copy it again."
        )
    array = np.frombuffer(values, dtype=np.uint8)
    return torch.from_numpy(array.reshape(shape))


def check_promise(path: Path, promised: int) -> None:
    """Check that the file and memory can hold the bytes the header promises.

    Raises
    ------
    UserError
        If the file is too short even at the best compression, or there is not enough memory.
    """
    held = path.stat().st_size
    most = held * (LARGEST_GROWTH if path.suffix == ".gz" else 1)
    if promised > most:
        raise UserError(
            f"{path}: the header promises {promised} bytes of values, the file holds {held}. It is "
            "truncated or damaged; copy it again."
        )
    check_memory(path, promised)


def _read_header(path: Path, content: bytearray, ndim: int) -> tuple[int, ...]:
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(
            f"{path}: not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}; "
            f"an IDX file of bytes with {counted(ndim, 'dimension')} starts with "
            f"00 00 08 {ndim:02x}."
        )
    if content[2] != IDX_UINT8 or content[3] != ndim:
        raise UserError(
            f"{path}: IDX type 0x{content[2]:02x} with {counted(content[3], 'dimension')}; "
            f"expected type 0x08 (unsigned bytes) with {ndim}. Are images and labels swapped?"
        )
    if len(content) < 4 + 4 * ndim:
        raise UserError(f"{path}: ends within its header; it is truncated or damaged.")
    return struct.unpack(f">{ndim}I", content[4:])


def check_md5(path: Path, expected: str) -> None:
    """Refuse a file whose MD5 differs from the published one.

    Raises
    ------
    UserError
        If the file is missing or its content differs.
    """
    try:
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}. The bundled MNIST is incomplete; reinstall mnist_exp."
        ) from error
    if found != expected:
        raise UserError(
            f"{path}: MD5 is {found}, expected {expected}. The file is damaged; "
            "reinstall mnist_exp or check the file out again."
        )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        with open_regular(path) as file:
            if path.suffix != ".gz":
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip data ({error}). Copy the file again.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def _read(file: IO[bytes] | gzip.GzipFile, size: int) -> bytearray:
    """Read up to ``size`` bytes in blocks, so that memory grows only with what the file holds."""
    content = bytearray()
    while len(content) < size and (block := file.read(min(size - len(content), BLOCK))):
        content += block
    return content

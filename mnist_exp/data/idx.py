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

from mnist_exp.data.arrays import COLOUR, GREY
from mnist_exp.errors import UserError
from mnist_exp.files.regular import check_memory, open_regular
from mnist_exp.wording import counted

IDX_UINT8 = 0x08  # type code of unsigned bytes, third byte of the magic number
TYPES = {
    IDX_UINT8: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
LARGEST_GROWTH = 1032  # deflate's largest ratio, 1032:1 (zlib manual)
LARGEST_SIDE = 1 << 24  # sizes above it are more likely in the wrong byte order
BLOCK = 1 << 20  # bytes read at once


def read_idx(path: Path, *ndim: int) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped or not.

    Layout of the format: http://yann.lecun.com/exdb/mnist (two zero bytes, type code, number of
    dimensions, then each size as a big-endian uint32, then the values).

    Parameters
    ----------
    path : Path
        The file; decompressed if the name ends in ``.gz``.
    *ndim : int
        Allowed numbers of dimensions: 3 or 4 for images, 1 for labels.

    Returns
    -------
    Tensor
        uint8, in the shape given by the header.

    Raises
    ------
    UserError
        If the file is missing, not IDX, of another type, rank or byte order, truncated or too long.
    """
    with open_unpacked(path) as file:
        shape = _read_header(path, file, ndim)
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


def _read_header(
    path: Path, file: IO[bytes] | gzip.GzipFile, ndim: tuple[int, ...]
) -> tuple[int, ...]:
    """Read the header and return the shape."""
    start = _read(file, 4)
    _check_magic(path, start, ndim)
    sizes = _read(file, 4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise UserError(f"{path}: ends within its header; it is truncated or damaged.")
    shape, reversed_ = (struct.unpack(f"{order}{start[3]}I", sizes) for order in "><")
    if max(reversed_) < LARGEST_SIDE <= max(shape):
        raise UserError(
            f"{path}: its sizes are little-endian: {list(reversed_)} reads as {list(shape)}. IDX "
            'is big-endian; write the sizes with struct.pack(">I", size).'
        )
    return shape


def _check_magic(path: Path, start: bytearray, ndim: tuple[int, ...]) -> None:
    wanted = " or ".join(map(str, ndim))
    dimensions = counted(ndim[0], "dimension") if len(ndim) == 1 else f"{wanted} dimensions"
    if start[:2] == b"\x1f\x8b":
        raise UserError(f"{path}: is compressed by gzip; let its name end in .gz.")
    if len(start) == 4 and start[2:] == b"\0\0" and start[1] in TYPES:
        raise UserError(
            f"{path}: its first four bytes, {start.hex(' ')}, are in little-endian order; IDX is "
            f"big-endian: {start[::-1].hex(' ')}, and the sizes after it too."
        )
    if len(start) < 4 or start[:2] != b"\0\0":
        raise UserError(
            f"{path}: not an IDX file: it starts with {start.hex(' ') or 'nothing'}; "
            f"an IDX file of bytes with {dimensions} starts with 00 00 08 {ndim[0]:02x}."
        )
    if start[2] != IDX_UINT8:
        found = TYPES.get(start[2], "unknown")
        raise UserError(
            f"{path}: holds values of IDX type 0x{start[2]:02x} ({found}); expected type 0x08 "
            "(uint8): pixels from 0 to 255, labels likewise. Convert with .astype('uint8'), pixels "
            "from 0 to 1 with (images * 255).round().astype('uint8')."
        )
    if start[3] not in ndim:
        raise UserError(
            f"{path}: has {counted(start[3], 'dimension')}, expected {wanted}: images are {GREY} "
            f"or {COLOUR}, labels [N]. Are images and labels swapped?"
        )


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
def open_unpacked(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a regular file for reading, decompressed if its name ends in ``.gz``.

    Raises
    ------
    UserError
        If it is missing or no regular file, or, also while it is read, damaged.
    """
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

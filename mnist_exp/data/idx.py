"""Read files in the IDX format, the format of the MNIST family."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnist_exp.errors import UserError

IDX_UINT8 = 0x08  # type code of unsigned bytes, third byte of the magic number


def read_idx(path: Path, ndim: int) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped or not.

    Layout of the format: http://yann.lecun.com/exdb/mnist (two zero bytes, type code, number of
    dimensions, then each size as a big-endian uint32, then the values).

    Parameters
    ----------
    path : Path
        The file; a name ending in ``.gz`` is decompressed.
    ndim : int
        The number of dimensions the file must have: 3 for images, 1 for labels.

    Returns
    -------
    Tensor
        uint8, shaped as the header says.

    Raises
    ------
    UserError
        If the file is missing, not IDX, of another type or rank, truncated or too long.
    """
    content = _read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(
            f"{path}: not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}; "
            f"an IDX file of bytes with {ndim} dimension(s) starts with 00 00 08 {ndim:02x}."
        )
    if content[2] != IDX_UINT8 or content[3] != ndim:
        raise UserError(
            f"{path}: IDX type 0x{content[2]:02x} with {content[3]} dimension(s); expected type "
            f"0x08 (unsigned bytes) with {ndim}. Are images and labels swapped?"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise UserError(f"{path}: ends within its header; it is truncated or damaged.")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path}: the header promises {math.prod(shape)} bytes of values (shape {shape}), "
            f"the file holds {len(content) - start}. It is truncated or damaged; copy it again."
        )
    values = np.frombuffer(bytearray(content), dtype=np.uint8, offset=start)
    return torch.from_numpy(values.reshape(shape))


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


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip data ({error}). Copy the file again.") from error

"""Arrays written row by row, flushed to disk and checksummed: .npy files and torch's .pt files.

Rows are appended in order to a plain file, so only the current ones are in memory.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mnist_exp.errors import UserError

# numpy has no bfloat16: its bits are stored as uint16, and the manifest has the true dtype.
NUMPY_DTYPES = {
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "float64": "<f8",
    "uint8": "|u1",
    "int64": "<i8",
}


class RowFile(ABC):
    """A file that takes the rows of an array in order; ``close`` returns its description.

    A subclass's ``__init__`` opens it, positioned at ``self._offset``, where the first row goes.
    """

    _file: IO[bytes]
    _offset: int

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: str) -> None:
        self.path = path
        self.row_shape = row_shape
        self.dtype = dtype
        self.rows_written = 0
        self._crc32 = 0

    def append(self, rows: Tensor) -> None:
        """Write rows [B, *row_shape], converted to the file's dtype.

        Raises
        ------
        UserError
            If a finite value is beyond the range of float16.
        """
        data = raw_bytes(rows, self.dtype, self.path.stem)
        self._file.write(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self.rows_written += len(rows)

    @abstractmethod
    def complete(self) -> None:
        """Write or check what surrounds the rows, such as the header."""

    def close(self) -> dict[str, Any]:
        """Flush to disk; return file, bytes, offset, crc32, shape and dtype.

        ``offset`` is where the array begins; the checksum is that of `crc32_of`.

        Raises
        ------
        UserError
            If the number of rows is fixed and another number was written.
        """
        self.complete()
        os.fsync(self._file.fileno())
        self._file.close()
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "offset": self._offset,
            "crc32": crc32_of_start(self.path, self._offset, self._crc32),
            "shape": [self.rows_written, *self.row_shape],
            "dtype": self.dtype,
        }

    def discard(self) -> None:
        """Close without completing the file."""
        self._file.close()


class NpyFile(RowFile):
    """A .npy array [N, *row_shape]; N is known only at the end."""

    def __init__(self, path: Path, *, row_shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(path, row_shape, dtype)
        self._file = path.open("wb", buffering=0)
        self.complete()
        self._offset = self._file.tell()

    def read_back(self, start: int, stop: int) -> Tensor:
        """Read back written rows as float32; reading instead of mapping bounds memory."""
        elements = prod(self.row_shape)
        dtype = np.dtype(NUMPY_DTYPES[self.dtype])
        rows = min(stop, self.rows_written) - start
        offset = self._offset + start * elements * dtype.itemsize
        values = np.fromfile(self.path, dtype, count=rows * elements, offset=offset)
        return as_tensor(values.reshape(rows, *self.row_shape), self.dtype).float()

    def complete(self) -> None:
        """Write the header, in which numpy leaves room for a larger number of rows."""
        self._file.seek(0)
        description = {
            "shape": (self.rows_written, *self.row_shape),
            "fortran_order": False,
            "descr": NUMPY_DTYPES[self.dtype],
        }
        np.lib.format.write_array_header_1_0(self._file, description)


class PtFile(RowFile):
    """A ``torch.load``-able dict of gradients [N, *row_shape], param_shape and num_samples.

    ``torch.save`` reserves space for the tensor without allocating or writing it; the rows then
    go straight there. N is fixed from the start.
    """

    def __init__(
        self, path: Path, *, num_rows: int, row_shape: tuple[int, ...], dtype: str
    ) -> None:
        super().__init__(path, row_shape, dtype)
        self.num_rows = num_rows
        with FakeTensorMode():
            reserved = torch.empty(num_rows, *row_shape, dtype=getattr(torch, dtype))
        content = {"gradients": reserved, "param_shape": row_shape, "num_samples": num_rows}
        with torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save(content, path)
        self._offset = storage_offset(path)
        self._file = path.open("r+b", buffering=0)
        self._file.seek(self._offset)

    def complete(self) -> None:
        """Check the number of rows and add the end of the archive to the checksum."""
        if self.rows_written != self.num_rows:
            raise UserError(
                f"{self.path.name} was opened for {self.num_rows} samples and got "
                f"{self.rows_written}. Append every sample exactly once."
            )
        self._crc32 = zlib.crc32(self._file.read(), self._crc32)


def storage_offset(path: Path) -> int:
    """Return where the bytes of the only tensor in a .pt file begin.

    A zip member's data follow its local header: 30 bytes, then the name and the extra field. Their
    lengths are at bytes 26 and 28 (PKWARE APPNOTE 6.3.10, section 4.3.7).
    """
    with zipfile.ZipFile(path) as archive:
        (member,) = (m for m in archive.infolist() if m.filename.endswith("/data/0"))
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
    return member.header_offset + 30 + int(name_length) + int(extra_length)


def raw_bytes(rows: Tensor, dtype: str, name: str) -> memoryview:
    """Convert rows to the bytes of a contiguous little-endian array of ``dtype``."""
    converted = rows.detach().to("cpu", getattr(torch, dtype)).contiguous()
    if dtype == "float16" and not bool((converted.isfinite() == rows.isfinite().cpu()).all()):
        raise UserError(
            f"{name}: a value of {rows.abs().max().item():.3g} is beyond the 65504 of float16. "
            "Use gradients.dtype=bfloat16 or float32."
        )
    bits = converted.view(torch.uint16) if dtype == "bfloat16" else converted
    return bits.numpy().reshape(-1).view(np.uint8).data


def as_tensor(values: np.ndarray[Any, Any], dtype: str) -> Tensor:
    """Convert an array read from a file to a tensor of the dtype that was written."""
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def map_rows(path: Path, description: dict[str, Any]) -> np.memmap[Any, Any]:
    """Map the array of a .npy or .pt file from its description, without unpickling."""
    dtype = np.dtype(NUMPY_DTYPES[description["dtype"]])
    return np.memmap(path, dtype, "r", description["offset"], tuple(description["shape"]))


def crc32_of(path: Path, offset: int) -> int:
    """Compute the CRC-32 of a whole file, from ``offset`` to the end, then from 0 to ``offset``.

    This order lets the checksum grow as rows are written, before the header is final.
    """
    checksum = 0
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return crc32_of_start(path, offset, checksum)


def crc32_of_start(path: Path, size: int, checksum: int) -> int:
    """Continue a CRC-32 over the first ``size`` bytes of a file, the header of its array."""
    with path.open("rb") as file:
        return zlib.crc32(file.read(size), checksum)

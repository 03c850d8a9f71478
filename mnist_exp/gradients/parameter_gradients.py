"""The stored gradients of one parameter, as an array that builds its rows on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.gradients.array_files import PtFile
from mnist_exp.gradients.disk_space import free_space, readable
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.layout import StoredParameter
from mnist_exp.wording import counted

# Bytes of gradients or factors held at once.
BLOCK_BYTES = 1 << 25

Rows = slice | Sequence[int] | np.ndarray | Tensor


class ParameterGradients:
    """The gradients of one parameter as an array [num_samples, *param_shape], built on demand.

    ``g[3]``, ``g[10:20]`` and ``g[[5, 7]]`` build those rows as float32 tensors.

    Attributes
    ----------
    name
        Name of the parameter.
    shape
        (num_samples, *param_shape).
    """

    def __init__(
        self, stored: StoredParameter, num_samples: int, rows_of: Callable[[str, Rows], Tensor]
    ):
        self.name = stored.name
        self.shape = (num_samples, *stored.shape)
        self.dtype = torch.float32
        self._stored = stored
        self._rows_of = rows_of  # an array's, by its name

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample's gradient once built."""
        return 4 * prod(self.shape[1:])

    def __repr__(self) -> str:
        return f"ParameterGradients({self.name}, shape={self.shape}, form={self._stored.form})"

    def __getitem__(self, rows: int | Rows) -> Tensor:
        if isinstance(rows, int | np.integer):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"sample {rows} of {len(self)}")
            return self.form([int(rows) % len(self)]).dense()[0]
        return self.form(rows).dense()

    def form(self, rows: Rows) -> SampleGradients:
        """Return the rows as factors, which give norms and products without building gradients."""
        arrays = {name: self._rows_of(name, rows) for name in self._stored.arrays.values()}
        return self._stored.gradients(arrays)

    def blocks(self) -> Iterator[SampleGradients]:
        """Yield all samples in blocks of about ``BLOCK_BYTES``."""
        largest = max(int(np.prod(self._stored.shape)), 1)
        if self._stored.form == "outer_product":
            largest = sum(self._stored.shape)
        rows = max(1, BLOCK_BYTES // (4 * largest))
        for start in range(0, len(self), rows):
            yield self.form(slice(start, start + rows))

    def norms(self) -> Tensor:
        """Compute the norm of each sample's gradient, [num_samples]."""
        return torch.cat([block.squared_norms() for block in self.blocks()]).sqrt()

    def mean(self) -> Tensor:
        """Compute the mean gradient, [*param_shape]."""
        total = torch.zeros(self.shape[1:], dtype=torch.float64)
        for block in self.blocks():
            total += block.sum()
        return (total / len(self)).float()

    def variance(self) -> Tensor:
        """Compute the variance of each element over the samples, [*param_shape]."""
        squares = torch.zeros(self.shape[1:], dtype=torch.float64)
        total = torch.zeros(self.shape[1:], dtype=torch.float64)
        for block in self.blocks():
            squares += block.sum_of_squares()
            total += block.sum()
        return (squares / len(self) - (total / len(self)).square()).clamp(min=0).float()

    def inner(self, direction: Tensor) -> Tensor:
        """Compute inner products with ``direction`` [*param_shape], [num_samples]."""
        return torch.cat([block.inner(direction) for block in self.blocks()])

    def dot(self, i: int, j: int) -> float:
        """Compute the inner product of the gradients of samples ``i`` and ``j``."""
        return self.form([i]).gram(self.form([j])).item()

    def gram(self, rows: Rows | None = None) -> Tensor:
        """Compute the inner products between the samples ``rows``; None: all samples."""
        form = self.form(slice(None) if rows is None else rows)
        return form.gram(form)

    def to_dense(self, path: str | Path, rows: Rows | None = None) -> Path:
        """Write the gradients themselves to a .pt file, in bounded memory.

        ``torch.load(path, weights_only=True, mmap=True)`` gives a dict of ``gradients``
        [num_samples, *param_shape], ``param_shape`` and ``num_samples``.

        Parameters
        ----------
        path
            The file to write.
        rows
            Samples to write, such as ``range(100)``; None: all.

        Raises
        ------
        UserError
            If the disk has no room for it.
        """
        (written,) = write_dense({Path(path): self}, rows)
        return written

    def write_rows(self, path: Path, samples: np.ndarray[Any, Any]) -> None:
        """Write the gradients of the samples with these numbers to a new file."""
        file = PtFile(path, num_rows=len(samples), row_shape=self.shape[1:], dtype="float32")
        at_once = max(1, BLOCK_BYTES // max(self.row_bytes, 1))
        try:
            for start in range(0, len(samples), at_once):
                file.append(self[samples[start : start + at_once]])
            file.close()
        finally:
            file.discard()


def write_dense(files: Mapping[Path, ParameterGradients], rows: Rows | None = None) -> list[Path]:
    """Write the gradients themselves, one .pt file per parameter in one directory.

    If one file cannot be written, none is.

    Raises
    ------
    UserError
        If the disk has no room for all files.
    """
    if isinstance(rows, Tensor):
        rows = rows.cpu().numpy()
    index = rows if isinstance(rows, slice | None) else np.asarray(rows)
    chosen = {
        path: np.arange(len(gradients))[slice(None) if index is None else index]
        for path, gradients in files.items()
    }
    _check_room(files, chosen)
    partial = {path: path.with_name(f".{path.name}.partial") for path in files}
    try:
        for path, gradients in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            gradients.write_rows(partial[path], chosen[path])
        return [partial[path].replace(path) for path in files]
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def _check_room(
    files: Mapping[Path, ParameterGradients], chosen: Mapping[Path, np.ndarray[Any, Any]]
) -> None:
    needed = sum(len(chosen[path]) * gradients.row_bytes for path, gradients in files.items())
    for path in files:
        existing, free = free_space(path.parent)
        if needed > free:
            raise UserError(
                f"{path.parent}: the gradients of {counted(len(chosen[path]), 'sample')} take "
                f"{readable(needed)} when built; {existing} has {readable(free)} free. "
                "Take some rows, g[:10] or g.to_dense(path, rows=range(100)); g.norms(), "
                "g.mean() and g.gram() need no file."
            )

"""One epoch's gradients on disk: all of it, or nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import flush_directory
from mnist_exp.gradients.array_files import NpyFile, PtFile, RowFile
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.layout import Layout, parts_of

FORMAT_VERSION = 3  # 2: without derived arrays
MANIFEST = "manifest.json"
STATISTICS = "gradient_stats.json"
# Gradients built at once when a file holds the gradients themselves.
DENSE_BLOCK_BYTES = 1 << 25


class EpochWriter:
    """Write ``directory/epoch_{epoch}``, under a temporary name until it is complete.

    Parameters
    ----------
    directory
        Where the epochs stand; made if need be.
    epoch
        Its number; an epoch of the same number, from before a run was resumed, is replaced.
    layout
        The arrays to write.
    dense_samples
        The number of samples when the gradients themselves are to be written, as
        ``{parameter}_epoch_{epoch}.pt``; None writes the layout's arrays as ``{array}.npy``.
    weights
        The weights, by name, from which the layout's derived arrays follow.

    Raises
    ------
    UserError
        If something else has the epoch's name.
    """

    def __init__(
        self,
        directory: Path,
        *,
        epoch: int,
        layout: Layout,
        dense_samples: int | None,
        weights: Mapping[str, Tensor],
    ):
        self.epoch = epoch
        self.target = directory / f"epoch_{epoch}"
        if os.path.lexists(self.target) and not is_epoch(self.target):
            raise UserError(
                f"{self.target}: is there already and no collected epoch, so it is not replaced. "
                "Move it, or collect elsewhere."
            )
        directory.mkdir(parents=True, exist_ok=True)
        self.layout = layout
        self.weights = weights
        prefix = f".epoch_{epoch}.partial-"
        for leftover in directory.glob(f"{prefix}*"):  # of a run that was killed
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
        self.partial = Path(tempfile.mkdtemp(prefix=prefix, dir=directory))
        self.partial.chmod(0o755)
        self._dense = dense_samples is not None
        self._columns: dict[str, NpyFile] = {}
        self._arrays: dict[str, RowFile] = {}
        for array in layout.arrays:
            if dense_samples is None:
                self._arrays[array.name] = NpyFile(
                    self.partial / f"{array.name}.npy",
                    row_shape=array.row_shape,
                    dtype=array.dtype,
                )
            else:
                self._arrays[array.name] = PtFile(
                    self.partial / f"{array.name}_epoch_{epoch}.pt",
                    num_rows=dense_samples,
                    row_shape=array.row_shape,
                    dtype=array.dtype,
                )

    def append(self, gradients: Mapping[str, SampleGradients], images: Tensor | None) -> None:
        """Write the gradients of B samples; ``images`` are their pixels, uint8 [B, ...]."""
        if self._dense:
            for array in self.layout.arrays:
                rows = max(1, DENSE_BLOCK_BYTES // max(1, array.row_bytes))
                source = gradients[array.name]
                for start in range(0, len(source), rows):
                    self._arrays[array.name].append(source[start : start + rows].dense())
            return
        parts = {
            array: parts_of(gradients[parameter.name])[part]
            for parameter in self.layout.parameters
            for part, array in parameter.arrays.items()
        }
        for array in self.layout.arrays:
            rows_of_array = parts[array.name]
            if array.pixels and images is not None:
                rows_of_array = images.reshape(rows_of_array.shape)
            self._arrays[array.name].append(rows_of_array)

    def read_back(self, start: int, stop: int, inputs: Tensor) -> dict[str, SampleGradients]:
        """Return gradients written before, from their arrays; ``inputs`` stand in for pixels.

        Only for a layout written as it is, without ``dense_samples``.
        """
        arrays = {}
        for array in self.layout.arrays:
            file = self._arrays[array.name]
            if array.pixels:
                arrays[array.name] = inputs.reshape(-1, *array.row_shape)
            elif isinstance(file, NpyFile):
                arrays[array.name] = file.read_back(start, stop).to(inputs)
        for one in reversed(self.layout.derived):  # each may need the one after it
            after, between = arrays[one.output_gradient], arrays[one.input]
            arrays[one.name] = one.rows(after, between, self.weights[one.weight].to(inputs))
        return {p.name: p.gradients(arrays) for p in self.layout.parameters}

    def append_column(self, name: str, values: Tensor, dtype: str) -> None:
        """Write one value, or one row of values, a sample to ``{name}.npy``."""
        if name not in self._columns:
            shape = tuple(values.shape[1:])
            self._columns[name] = NpyFile(
                self.partial / f"{name}.npy", row_shape=shape, dtype=dtype
            )
        self._columns[name].append(values)

    def finish(self, manifest: dict[str, Any], statistics: dict[str, Any]) -> Path:
        """Complete the manifest, flush everything to disk and give the directory its name.

        An epoch of the same name, from before a run was resumed, is replaced.
        """
        for name, weight in self.weights.items():
            self.append_column(f"{name}.value", weight.unsqueeze(0), "float32")
        manifest = manifest | {
            "arrays": {name: file.close() for name, file in self._arrays.items()},
            "columns": {name: file.close() for name, file in self._columns.items()},
            "pixel_arrays": [array.name for array in self.layout.arrays if array.pixels],
            "parameters": [parameter.to_json() for parameter in self.layout.parameters],
            "derived": [asdict(array) for array in self.layout.derived],
            "statistics_crc32": zlib.crc32(json_bytes(statistics)),
        }
        manifest["crc32"] = zlib.crc32(json_bytes(manifest))  # of all the entries before it
        for stem, content in (("gradient_stats", statistics), ("metadata", manifest)):
            write_durably(self.partial / f"{stem}.pkl", pickle.dumps(content, protocol=4))
        write_durably(self.partial / STATISTICS, json_bytes(statistics))
        write_durably(self.partial / MANIFEST, json_bytes(manifest))
        flush_directory(self.partial)
        replaced = self.target.with_name(f".epoch_{self.epoch}.partial-replaced")
        if self.target.exists():
            os.rename(self.target, replaced)
        os.rename(self.partial, self.target)
        flush_directory(self.target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        return self.target

    def discard(self) -> None:
        """Leave nothing behind."""
        for file in (*self._arrays.values(), *self._columns.values()):
            file.discard()
        shutil.rmtree(self.partial, ignore_errors=True)


def is_epoch(directory: Path) -> bool:
    """Whether a directory was written by `EpochWriter`, and may be replaced by it."""
    files = (directory / name for name in (MANIFEST, STATISTICS))
    return not directory.is_symlink() and all(file.is_file() for file in files)


def json_bytes(values: dict[str, Any]) -> bytes:
    """Encode as JSON; a value that is not finite must have been made None before."""
    return json.dumps(values, indent=1, allow_nan=False).encode()


def write_durably(path: Path, data: bytes) -> None:
    """Write a whole file and flush it to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

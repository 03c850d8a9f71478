"""Read collected gradients as arrays that build rows on demand, without unpickling."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.gradients.array_files import as_tensor, crc32_of, map_rows
from mnist_exp.gradients.layout import DerivedArray, StoredParameter
from mnist_exp.gradients.location import located
from mnist_exp.gradients.manifest import read_manifest
from mnist_exp.gradients.parameter_gradients import ParameterGradients, Rows, write_dense
from mnist_exp.gradients.statistics import cosines
from mnist_exp.wording import counted


class UnknownParameter(UserError, KeyError):
    """There are no gradients of that name; a KeyError too, as mappings raise."""

    __str__ = Exception.__str__  # KeyError's would put the text in quotes


class StoredGradients(Mapping[str, ParameterGradients]):
    """One epoch's gradients, by parameter name; made by ``open``.

    Sample ``i`` below is the i-th in the files; ``sample_ids[i]`` is its row in the data set.

    Attributes
    ----------
    num_samples
        Number of samples.
    manifest
        The content of ``manifest.json``.
    statistics
        The content of ``gradient_stats.json``.
    """

    def __init__(self, directory: Path, manifest: dict[str, Any], statistics: dict[str, Any]):
        self.directory = directory
        self.manifest = manifest
        self.num_samples = int(manifest["num_samples"])
        self.statistics = statistics
        files = manifest["arrays"] | manifest["columns"]
        self._maps = {name: map_rows(directory / f["file"], f) for name, f in files.items()}
        self._dtypes = {name: file["dtype"] for name, file in files.items()}
        self._pixel_values: Tensor | None = None
        if manifest["pixel_values"] is not None:
            self._pixel_values = torch.tensor(manifest["pixel_values"], dtype=torch.float32)
        derived = [DerivedArray(**values) for values in manifest["derived"]]
        self._derived = {array.name: array for array in derived}
        stored = [StoredParameter.from_json(values) for values in manifest["parameters"]]
        self._parameters = {
            p.name: ParameterGradients(p, self.num_samples, self.rows) for p in stored
        }

    def __getitem__(self, name: str) -> ParameterGradients:
        if name not in self._parameters:
            raise UnknownParameter(self._no_such(name))
        return self._parameters[name]

    def _no_such(self, name: object) -> str:
        names = list(self._parameters)
        close = difflib.get_close_matches(str(name), names, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        allowed = f"allowed is one of: {', '.join(names)}" if names else "it has statistics only"
        return f"{name!r}: {self.directory} has no gradients of that name; {allowed}.{meant}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        samples = counted(self.num_samples, "sample")
        return f"StoredGradients({str(self.directory)!r}, {samples}, {list(self)})"

    @property
    def sample_ids(self) -> Tensor:
        """Rows of the data set, int64 [num_samples]."""
        return self.rows("sample_ids", slice(None))

    @property
    def labels(self) -> Tensor:
        """Labels, int64 [num_samples]."""
        return self.rows("labels", slice(None))

    @property
    def losses(self) -> Tensor:
        """Losses, float32 [num_samples]."""
        return self.rows("losses", slice(None))

    def rows(self, array: str, rows: int | Rows) -> Tensor:
        """Read rows of an array: floats as float32, pixels as network inputs."""
        if array in self._derived:
            derived = self._derived[array]
            after, between = (
                self.rows(derived.output_gradient, rows),
                self.rows(derived.input, rows),
            )
            return derived.rows(after, between, self.rows(f"{derived.weight}.value", 0))
        if isinstance(rows, Tensor):
            rows = rows.cpu().numpy()
        values = as_tensor(np.array(self._maps[array][rows]), self._dtypes[array])
        if array in self.manifest["pixel_arrays"]:
            assert self._pixel_values is not None  # `read_manifest` ensures it
            return self._pixel_values[values.int()]
        return values if self._dtypes[array] == "int64" else values.float()

    def norms(self) -> Tensor:
        """Return the norm of each sample's gradient over all parameters, [num_samples]."""
        return self.rows("norms", slice(None)).square().sum(1).sqrt()

    def mean(self) -> dict[str, Tensor]:
        """Return the mean gradient of each parameter."""
        return {name: self.rows(f"{name}.mean", 0) for name in self.manifest["names"]}

    def cosines(self) -> Tensor:
        """Return the cosine of each gradient with the mean gradient, [num_samples].

        Computed from the gradients if it was not stored at collection; 0 for a gradient of zero.

        Raises
        ------
        UserError
            If neither cosines nor gradients are stored.
        """
        if "cosines" in self._maps:
            return self.rows("cosines", slice(None))
        if not self._parameters:
            raise UserError(
                f"{self.directory} holds statistics only, without cosines. Collect it again with "
                "gradients.cosine=true, or with gradients.format=factored."
            )
        means = self.mean()
        return cosines(self, {name: means[name] for name in self}, self.norms())

    def dot(self, i: int, j: int) -> float:
        """Compute the inner product of samples ``i`` and ``j`` over all parameters."""
        return sum(parameter.dot(i, j) for parameter in self.values())

    def gram(self, rows: Rows | None = None) -> Tensor:
        """Compute the inner products between samples over all parameters."""
        first, *others = (parameter.gram(rows) for parameter in self.values())
        return sum(others, start=first)

    def to_dense(self, directory: str | Path) -> list[Path]:
        """Write ``{parameter}_epoch_{epoch}.pt`` for each parameter, all of them or none.

        Raises
        ------
        UserError
            If the disk has no room for all files.
        """
        target, epoch = Path(directory), self.manifest["epoch"]
        return write_dense({target / f"{name}_epoch_{epoch}.pt": g for name, g in self.items()})

    def verify(self) -> None:
        """Compare the checksum of every array's file, header included.

        Raises
        ------
        UserError
            If a file has changed since it was written.
        """
        for file in (*self.manifest["arrays"].values(), *self.manifest["columns"].values()):
            path = self.directory / file["file"]
            if crc32_of(path, file["offset"]) != file["crc32"]:
                raise UserError(
                    f"{path} is damaged: its CRC-32 is not that of the manifest. Collect the "
                    "epoch again."
                )


def open(path: str | Path) -> StoredGradients:
    """Open a collected epoch such as ``.../gradients/epoch_3``, even if its files are elsewhere.

    The names and sizes of all files are checked; ``verify()`` also compares their checksums.

    Raises
    ------
    UserError
        If the directory is not a collected epoch, or a file is missing or damaged.

    Examples
    --------
    >>> from mnist_exp import gradients
    >>> epoch = gradients.open("outputs/.../gradients/epoch_1")  # doctest: +SKIP
    >>> epoch["network.0.weight"][17].shape  # doctest: +SKIP
    torch.Size([512, 784])
    """
    path = Path(path)
    directory = located(path.parent) / path.name
    return StoredGradients(directory, *read_manifest(directory))

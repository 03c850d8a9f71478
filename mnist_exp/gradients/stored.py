"""Read what was collected: arrays that build their rows on demand. Nothing is unpickled."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.gradients.array_files import as_tensor, crc32_of, map_rows
from mnist_exp.gradients.epoch_writer import FORMAT_VERSION, MANIFEST, STATISTICS, json_bytes
from mnist_exp.gradients.layout import DerivedArray, StoredParameter
from mnist_exp.gradients.parameter_gradients import ParameterGradients, Rows

READABLE = (2, FORMAT_VERSION)


class StoredGradients(Mapping[str, ParameterGradients]):
    """One epoch's gradients, by parameter name; made by ``open``.

    Sample ``i`` below is the i-th in the files; ``sample_ids[i]`` is its row in the data set.

    Attributes
    ----------
    num_samples
        How many.
    manifest
        Everything known about the collection.
    statistics
        What ``gradient_stats.json`` holds.
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
        # absent from version 2 of the format
        derived = [DerivedArray(**values) for values in manifest.get("derived", ())]
        self._derived = {array.name: array for array in derived}
        stored = [StoredParameter.from_json(values) for values in manifest["parameters"]]
        self._parameters = {p.name: ParameterGradients(p.name, p, self) for p in stored}

    def __getitem__(self, name: str) -> ParameterGradients:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return f"StoredGradients({str(self.directory)!r}, {self.num_samples} samples, {list(self)})"

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
        """Read rows of an array: floats as float32, pixels as the network's inputs."""
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
            assert self._pixel_values is not None  # `open` made sure
            return self._pixel_values[values.int()]
        return values if self._dtypes[array] == "int64" else values.float()

    def norms(self) -> Tensor:
        """Return the norm of each sample's gradient over all parameters, [num_samples]."""
        return self.rows("norms", slice(None)).square().sum(1).sqrt()

    def mean(self) -> dict[str, Tensor]:
        """Return the mean gradient of each parameter."""
        return {name: self.rows(f"{name}.mean", 0) for name in self.manifest["names"]}

    def cosines(self) -> Tensor:
        """Return the cosine of each gradient with the mean one, [num_samples].

        Computed from the gradients unless it was at collection; 0 for a gradient of zero.

        Raises
        ------
        UserError
            If it was not, and no gradients are stored.
        """
        if "cosines" in self._maps:
            return self.rows("cosines", slice(None))
        if not self._parameters:
            raise UserError(
                f"{self.directory} holds statistics only, without cosines. Collect it again with "
                "gradients.cosine=true, or with gradients.format=factored."
            )
        means = self.mean()
        products = sum(
            (
                torch.cat([block.inner(means[name]) for block in parameter.blocks()])
                for name, parameter in self.items()
            ),
            start=torch.zeros(self.num_samples),
        )
        length = sum(mean.square().sum() for mean in means.values()) ** 0.5
        tiny = torch.finfo(torch.float32).tiny
        return products / (self.norms() * length).clamp(min=tiny)

    def dot(self, i: int, j: int) -> float:
        """Compute the inner product of samples ``i`` and ``j`` over all parameters."""
        return sum(parameter.dot(i, j) for parameter in self.values())

    def gram(self, rows: Rows | None = None) -> Tensor:
        """Compute the inner products between samples over all parameters."""
        first, *others = (parameter.gram(rows) for parameter in self.values())
        return sum(others, start=first)

    def to_dense(self, directory: str | Path) -> list[Path]:
        """Write ``{parameter}_epoch_{epoch}.pt`` for each parameter."""
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        epoch = self.manifest["epoch"]
        return [g.to_dense(target / f"{name}_epoch_{epoch}.pt") for name, g in self.items()]

    def verify(self) -> None:
        """Compare the checksum of every array's file, its header included.

        Raises
        ------
        UserError
            If a file is not what was written.
        """
        for file in (*self.manifest["arrays"].values(), *self.manifest["columns"].values()):
            path = self.directory / file["file"]
            if crc32_of(path, file["offset"]) != file["crc32"]:
                raise UserError(
                    f"{path} is damaged: its CRC-32 is not that of the manifest. Collect the "
                    "epoch again."
                )


def open(path: str | Path) -> StoredGradients:
    """Open a collected epoch, ``.../gradients/epoch_3``.

    Names and sizes of all files are checked; ``verify()`` also compares their checksums.

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
    directory = Path(path)
    manifest = read_json(directory / MANIFEST)
    checksum = manifest.pop("crc32", None)
    version = manifest.get("format_version")
    if version not in READABLE:
        raise UserError(
            f"{directory / MANIFEST} has format_version {version!r}; this version reads "
            f"{' and '.join(map(str, READABLE))}."
        )
    if checksum != zlib.crc32(json_bytes(manifest)):
        raise UserError(
            f"{directory / MANIFEST} is damaged: its content does not match its checksum. Collect "
            "the epoch again."
        )
    statistics = read_json(directory / STATISTICS)
    if manifest["statistics_crc32"] != zlib.crc32(json_bytes(statistics)):
        raise UserError(
            f"{directory / STATISTICS} is damaged: its content does not match the checksum in "
            f"{MANIFEST}. Collect the epoch again."
        )
    try:
        check_files(directory, (*manifest["arrays"].values(), *manifest["columns"].values()))
        return StoredGradients(directory, manifest, statistics)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{directory / MANIFEST} is damaged: {error!r}. Collect the epoch again."
        ) from error


def check_files(directory: Path, files: Sequence[Mapping[str, Any]]) -> None:
    """Check that every file of a manifest is there in full.

    Raises
    ------
    UserError
        If one is missing, has another size, or stands elsewhere.
    """
    for file in files:
        name = file["file"]
        if Path(name).name != name:
            raise UserError(f"{directory / MANIFEST} names {name!r}, which is not a plain name.")
        array = directory / name
        if not array.is_file():
            raise UserError(f"{array} is missing. Collect the epoch again.")
        if array.stat().st_size != file["bytes"]:
            raise UserError(
                f"{array} is damaged: {array.stat().st_size} bytes, and {file['bytes']} were "
                "written. Collect the epoch again."
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        If the file is missing or is not one.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent} is not a collected epoch: it has no {path.name}. Give the path of a "
            "directory such as outputs/<run>/gradients/epoch_1."
        )
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. Collect the epoch again.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: not a JSON object. Collect the epoch again.")
    return values

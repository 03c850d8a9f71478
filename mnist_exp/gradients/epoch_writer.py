"""Write one epoch's gradients to disk, all or nothing."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import flush_directory, write_atomic, write_json
from mnist_exp.gradients.array_files import NpyFile, PtFile, RowFile
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.layout import Layout, parts_of
from mnist_exp.gradients.manifest import FORMAT_VERSION, MANIFEST, STATISTICS, checksum_of
from mnist_exp.gradients.per_sample import BatchGradients
from mnist_exp.gradients.preparation import Preparation
from mnist_exp.gradients.statistics import GradientMoments, summarize

# Bytes of gradients built at once for format dense.
DENSE_BLOCK_BYTES = 1 << 25


class EpochWriter:
    """Write ``directory/epoch_{epoch}``, under a temporary name until it is complete.

    Parameters
    ----------
    directory
        The parent of the epoch directories; created if missing.
    epoch
        Number of the epoch. One with the same number, from before a resume, is replaced.
    layout
        The arrays to write.
    dense_samples
        Number of samples, to write the gradients themselves as ``{parameter}_epoch_{epoch}.pt``.
        None: write the layout's arrays as ``{array}.npy``.
    weights
        The weights, by name, that the layout's derived arrays are computed from.

    Raises
    ------
    UserError
        If something other than a collected epoch has this name.
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
                f"{self.target}: exists and is not a collected epoch, so it is not replaced. "
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
        """Return gradients read back from their arrays; ``inputs`` take the place of the pixels.

        Only without ``dense_samples``.
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
        """Write one value or row per sample to ``{name}.npy``."""
        if name not in self._columns:
            shape = tuple(values.shape[1:])
            self._columns[name] = NpyFile(
                self.partial / f"{name}.npy", row_shape=shape, dtype=dtype
            )
        self._columns[name].append(values)

    def finish(self, manifest: dict[str, Any], statistics: dict[str, Any]) -> Path:
        """Complete the manifest, flush everything to disk and rename the directory.

        An epoch of the same name, from before a resume, is replaced.
        """
        for name, weight in self.weights.items():
            self.append_column(f"{name}.value", weight.unsqueeze(0), "float32")
        manifest = manifest | {
            "arrays": {name: file.close() for name, file in self._arrays.items()},
            "columns": {name: file.close() for name, file in self._columns.items()},
            "pixel_arrays": [array.name for array in self.layout.arrays if array.pixels],
            "parameters": [parameter.to_json() for parameter in self.layout.parameters],
            "derived": [asdict(array) for array in self.layout.derived],
            "statistics_crc32": checksum_of(statistics),
        }
        manifest["crc32"] = checksum_of(manifest)  # of all entries above
        for stem, content in (("gradient_stats", statistics), ("metadata", manifest)):
            write_atomic(self.partial / f"{stem}.pkl", pickle.dumps(content, protocol=4))
        write_json(self.partial / STATISTICS, statistics)
        write_json(self.partial / MANIFEST, manifest)  # flushes the names of the arrays too
        replaced = self.target.with_name(f".epoch_{self.epoch}.partial-replaced")
        if self.target.exists():
            os.rename(self.target, replaced)
        os.rename(self.partial, self.target)
        flush_directory(self.target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        return self.target

    def discard(self) -> None:
        """Close all files and delete the partial directory."""
        for file in (*self._arrays.values(), *self._columns.values()):
            file.discard()
        shutil.rmtree(self.partial, ignore_errors=True)


def is_epoch(directory: Path) -> bool:
    """Return whether `EpochWriter` wrote a directory and may replace it."""
    files = (directory / name for name in (MANIFEST, STATISTICS))
    return not directory.is_symlink() and all(file.is_file() for file in files)


class EpochRecording:
    """One epoch's collection: adds gradients to its files and to its statistics.

    Parameters
    ----------
    directory
        The parent of the epoch directories.
    epoch
        Number of the epoch.
    preparation
        The model, ready for collection.
    num_samples
        Number of samples that will be added.
    """

    def __init__(
        self,
        directory: Path,
        *,
        epoch: int,
        preparation: Preparation,
        num_samples: int,
    ):
        self.preparation = preparation
        self.moments = GradientMoments(preparation.model.shapes)
        self.writer = EpochWriter(
            directory,
            epoch=epoch,
            layout=preparation.layout,
            dense_samples=num_samples if preparation.settings.format == "dense" else None,
            weights={
                array.weight: preparation.model.weight(array.weight)
                for array in preparation.layout.derived
            },
        )
        self._rows: dict[str, list[Tensor]] = {}
        self._predictions: list[Tensor] = []

    def add(
        self, batch: BatchGradients, *, images: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[dict[str, SampleGradients], Tensor]:
        """Add B samples; return their gradients, and their norms over all parameters [B]."""
        self.writer.append(batch.gradients, images)
        gradients = {name: form.reusable() for name, form in batch.gradients.items()}
        squared_norms = self.moments.add(gradients)
        self._column("norms", squared_norms.sqrt(), "float32")
        self._column("losses", batch.losses, "float32")
        self._column("labels", labels, "int64")
        self._column("sample_ids", ids, "int64")
        self._predictions.append(batch.predictions.cpu())
        return gradients, squared_norms.sum(1).sqrt()

    def add_cosines(self, values: Tensor) -> None:
        """Add the cosines [B] of the next B samples."""
        self._column("cosines", values, "float32")

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write statistics and manifest, complete the epoch and return the statistics."""
        settings = self.preparation.settings
        rows = {name: torch.cat(parts) for name, parts in self._rows.items()}
        statistics = summarize(
            self.moments,
            norms=rows["norms"],
            losses=rows["losses"],
            labels=rows["labels"],
            sample_ids=rows["sample_ids"],
            predictions=torch.cat(self._predictions),
            cosine=rows.get("cosines"),
            top_k=settings.top_k,
        )
        means = self.moments.means()
        for name, mean in means.items():
            self.writer.append_column(f"{name}.mean", mean.unsqueeze(0), "float32")
        patterns = settings.parameters
        pixels = self.preparation.pixels
        self.writer.finish(
            {
                "format_version": FORMAT_VERSION,
                "epoch": self.writer.epoch,
                "num_samples": self.moments.num_samples,
                "names": self.moments.names,
                "shapes": {n: list(s) for n, s in self.preparation.model.shapes.items()},
                "settings": asdict(settings)
                | {"parameters": None if patterns is None else [str(p) for p in patterns]},
                "loss": "cross-entropy of the sample, not divided by the batch size",
                "batch_norm": "running statistics",
                "dropout": "as in training" if settings.dropout else "off",
                "effective_weights": self.preparation.model.parametrized,
                "pixel_values": None if pixels is None else pixels.tolist(),
                "torch": str(torch.__version__),
                **about,
            },
            statistics,
        )
        return statistics

    def discard(self) -> None:
        """Delete the partial epoch."""
        self.writer.discard()

    def _column(self, name: str, values: Tensor, dtype: str) -> None:
        values = values.detach().to("cpu", getattr(torch, dtype))
        self._rows.setdefault(name, []).append(values)
        self.writer.append_column(name, values, dtype)

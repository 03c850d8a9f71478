"""One epoch in the making: gradients go to its files and into its statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_exp.gradients.epoch_writer import FORMAT_VERSION, EpochWriter
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.per_sample import BatchGradients
from mnist_exp.gradients.preparation import CollectionSettings, Preparation
from mnist_exp.gradients.statistics import GradientMoments, summarize


class EpochRecording:
    """One epoch being written: files and moments grow batch by batch.

    Parameters
    ----------
    directory
        The directory of the epochs.
    epoch
        Its number.
    preparation
        Of the model.
    settings
        As given to ``preparation``.
    num_samples
        How many samples will come.
    """

    def __init__(
        self,
        directory: Path,
        *,
        epoch: int,
        preparation: Preparation,
        settings: CollectionSettings,
        num_samples: int,
    ):
        self.preparation = preparation
        self.settings = settings
        self.moments = GradientMoments(preparation.model.shapes)
        self.writer = EpochWriter(
            directory,
            epoch=epoch,
            layout=preparation.layout,
            dense_samples=num_samples if settings.format == "dense" else None,
            weights={
                array.weight: preparation.model.weight(array.weight)
                for array in preparation.layout.derived
            },
        )
        self._rows: dict[str, list[Tensor]] = {}

    def add(
        self, batch: BatchGradients, *, images: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[dict[str, SampleGradients], Tensor]:
        """Take in B samples; return their gradients, and their norms over all parameters [B]."""
        self.writer.append(batch.gradients, images)
        gradients = {name: form.reusable() for name, form in batch.gradients.items()}
        squared_norms = self.moments.add(gradients)
        self._column("norms", squared_norms.sqrt(), "float32")
        self._column("losses", batch.losses, "float32")
        self._column("labels", labels, "int64")
        self._column("sample_ids", ids, "int64")
        return gradients, squared_norms.sum(1).sqrt()

    def add_cosines(self, values: Tensor) -> None:
        """Take in the cosines [B] of the next B samples."""
        self._column("cosines", values, "float32")

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write statistics and manifest, complete the epoch and return the statistics."""
        rows = {name: torch.cat(parts) for name, parts in self._rows.items()}
        statistics = summarize(
            self.moments,
            norms=rows["norms"],
            losses=rows["losses"],
            labels=rows["labels"],
            sample_ids=rows["sample_ids"],
            cosine=rows.get("cosines"),
            top_k=self.settings.top_k,
        )
        means = self.moments.means()
        for name, mean in means.items():
            self.writer.append_column(f"{name}.mean", mean.unsqueeze(0), "float32")
        settings = asdict(self.settings)
        pixels = self.preparation.pixels
        self.writer.finish(
            {
                "format_version": FORMAT_VERSION,
                "epoch": self.writer.epoch,
                "num_samples": self.moments.num_samples,
                "names": self.moments.names,
                "shapes": {n: list(s) for n, s in self.preparation.model.shapes.items()},
                "settings": settings | {"parameters": as_list(self.settings.parameters)},
                "loss": "cross-entropy of the sample, not divided by the batch size",
                "batch_norm": "running statistics",
                "dropout": "as in training" if self.settings.dropout else "off",
                "effective_weights": self.preparation.model.parametrized,
                "pixel_values": None if pixels is None else pixels.tolist(),
                "torch": str(torch.__version__),
                **about,
            },
            statistics,
        )
        return statistics

    def discard(self) -> None:
        """Leave nothing of the epoch behind."""
        self.writer.discard()

    def _column(self, name: str, values: Tensor, dtype: str) -> None:
        values = values.detach().to("cpu", getattr(torch, dtype))
        self._rows.setdefault(name, []).append(values)
        self.writer.append_column(name, values, dtype)


def as_list(values: Sequence[str] | None) -> list[str] | None:
    """Return a plain list that JSON and pickle hold."""
    return None if values is None else [str(value) for value in values]

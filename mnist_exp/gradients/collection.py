"""Collect the gradients of many samples into one epoch's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_exp.cpu.float32_matmul import fast_float32_products
from mnist_exp.errors import UserError
from mnist_exp.gradients.epoch_writer import EpochRecording
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.preparation import CollectionSettings, Preparation
from mnist_exp.gradients.samples import Samples, replayed_randomness
from mnist_exp.gradients.statistics import cosines
from mnist_exp.models.parametrizations import state_sha256


def collect(
    model: nn.Module,
    samples: Samples,
    directory: str | Path,
    settings: CollectionSettings,
    *,
    epoch: int,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """Write the gradients of ``samples`` at the model's weights to ``directory/epoch_{epoch}``.

    The model, its mode, its ``.grad`` fields and torch's random state stay as they are. Dropout and
    augmentation draw from torch's global generator: collect in one Python thread at a time.

    Parameters
    ----------
    model
        From inputs [B, ...] to logits [B, num_classes].
    samples
        The samples whose gradients are taken.
    directory
        The parent of the epoch directories.
    settings
        What to collect.
    epoch
        The epoch after which the model has these weights; 0 is before training.
    checkpoint
        Name of the file with these weights, for the manifest.

    Returns
    -------
    dict
        The content of ``gradient_stats.json``.

    Raises
    ------
    UserError
        If the gradients cannot be separated by sample, a value does not fit the dtype, or
        ``samples.prepare`` returns other inputs in the second pass.
    """
    preparation = Preparation(model, samples, settings)
    recording = EpochRecording(
        Path(directory),
        epoch=epoch,
        preparation=preparation,
        num_samples=len(samples),
    )
    try:
        with fast_float32_products(preparation.device):
            _record_all(recording, samples)
        return recording.finish(
            {
                "weights": "of one moment, after the epoch" if epoch else "before training",
                "model_sha256": state_sha256(model),
                "checkpoint": checkpoint,
                "augmented": samples.augmented,
            }
        )
    except BaseException:
        recording.discard()
        raise


def _record_all(recording: EpochRecording, samples: Samples) -> None:
    preparation = recording.preparation
    settings = preparation.settings
    losses, norms = [], []
    with replayed_randomness(preparation.device, settings.seed):
        for start in range(0, len(samples), preparation.rows):
            images, labels, ids = samples.rows(start, start + preparation.rows)
            batch = preparation.model(samples.prepare(images), labels)
            norms.append(recording.add(batch, images=images, labels=labels, ids=ids)[1])
            losses.append(batch.losses)
    means = recording.moments.end_group()
    if not settings.cosine:
        return
    again = _read_back if settings.format == "factored" else _recompute
    with replayed_randomness(preparation.device, settings.seed):
        for gradients, length in zip(again(recording, samples, losses), norms, strict=True):
            recording.add_cosines(cosines(gradients, means, length))


def _read_back(
    recording: EpochRecording, samples: Samples, losses: Sequence[Tensor]
) -> Iterator[Mapping[str, SampleGradients]]:
    """Yield the gradients again, batch by batch, from the files just written."""
    rows = recording.preparation.rows
    for i in range(len(losses)):
        images, _, _ = samples.rows(i * rows, (i + 1) * rows)
        inputs = samples.prepare(images)
        yield recording.writer.read_back(i * rows, (i + 1) * rows, inputs)


def _recompute(
    recording: EpochRecording, samples: Samples, losses: Sequence[Tensor]
) -> Iterator[Mapping[str, SampleGradients]]:
    """Yield the gradients again, batch by batch, from the model."""
    preparation = recording.preparation
    for i, expected in enumerate(losses):
        images, labels, _ = samples.rows(i * preparation.rows, (i + 1) * preparation.rows)
        batch = preparation.model(samples.prepare(images), labels)
        if not torch.allclose(batch.losses, expected, equal_nan=True):
            raise UserError(
                "The inputs changed between the two passes over the samples. Samples.prepare must "
                "draw from torch's global generator; or set gradients.cosine=false."
            )
        yield {name: form.reusable() for name, form in batch.gradients.items()}

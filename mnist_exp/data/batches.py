"""Batches from tensors on the compute device: no workers, no copies, no PIL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mnist_exp.cpu.ops import pixels_to_inputs, threads_for
from mnist_exp.data.dataset import Dataset


class Augmentation(Protocol):
    """Random changes to a batch of images."""

    def __call__(self, images: Tensor, *, generator: Generator, erase_value: float) -> Tensor:
        """Return augmented pixels [B, C, H, W] in [0, 1]; erased ones are ``erase_value``."""


class Images:
    """Images and labels on the compute device, served as batches.

    Parameters
    ----------
    dataset : Dataset
        Moved to ``device`` once, as uint8.
    device : torch.device
        Compute device.
    mean, std : float
        Normalisation ``(x - mean) / std`` of pixels in [0, 1], the same for all channels.
    memory_format : torch.memory_format
        Layout of the batches; channels_last suits convolutions on most hardware.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        device: torch.device,
        mean: float,
        std: float,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.pixels = dataset.images.to(device).contiguous()
        self.labels = dataset.labels.to(device)
        self.mean = mean
        self.std = std
        self.memory_format = memory_format
        self.sample_size = math.prod(self.pixels.shape[1:])

    def batch(
        self,
        indices: Tensor,
        augmentation: Augmentation | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return network inputs [B, C, H, W] and int64 labels [B] of ``indices``."""
        with threads_for(len(indices) * self.sample_size):
            labels = self.labels.index_select(0, indices)
            if augmentation is None:
                images = _with_channels(pixels_to_inputs(self.pixels, indices, *self._line))
                return images.contiguous(memory_format=self.memory_format), labels
            pixels = self.pixels.index_select(0, indices)
            return self.inputs(pixels, augmentation, generator), labels

    def inputs(
        self,
        pixels: Tensor,
        augmentation: Augmentation | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Return normalised float32 images [B, C, H, W] from uint8 pixels [B, H, W] or those.

        An augmentation draws from ``generator``; what it erases is 0 after normalisation.
        """
        images = _with_channels(pixels).float()
        if augmentation is None or generator is None:
            scale, shift = self._line
            images.mul_(scale)
            if shift != 0:  # saves a pass for pixels in [0, 1]
                images.sub_(shift)
        else:
            images = augmentation(images.mul_(1 / 255), generator=generator, erase_value=self.mean)
            images = images.sub(self.mean).mul_(1 / self.std)
        return images.contiguous(memory_format=self.memory_format)

    def batches(self, indices: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of ``indices`` in order, without augmentation; the last may be smaller."""
        for chunk in indices.split(batch_size):
            yield self.batch(chunk)

    @property
    def _line(self) -> tuple[float, float]:
        """Scale and shift with scale * p - shift = (p / 255 - mean) / std."""
        return 1 / (255 * self.std), self.mean / self.std

    @property
    def device(self) -> torch.device:
        """Compute device of the batches."""
        return self.pixels.device


def _with_channels(images: Tensor) -> Tensor:
    """View grey images [B, H, W] as [B, 1, H, W]; others stay as they are."""
    return images.unsqueeze(1) if images.ndim == 3 else images


class Features:
    """Features and labels on the compute device, with the interface of `Images`.

    Parameters
    ----------
    X : ndarray
        float32 [N, d].
    labels : ndarray
        int64 [N], from 0.
    device : torch.device
        Compute device.
    """

    def __init__(self, X: npt.NDArray[Any], labels: npt.NDArray[Any], device: torch.device) -> None:
        self.device = device
        self.X = torch.tensor(X, device=device)
        self.labels = torch.tensor(labels, device=device)

    def batch(
        self, indices: Tensor, augmentation: object, generator: object
    ) -> tuple[Tensor, Tensor]:
        """Return features [B, d] and labels [B] of ``indices``; nothing is augmented."""
        return self.X.index_select(0, indices), self.labels.index_select(0, indices)

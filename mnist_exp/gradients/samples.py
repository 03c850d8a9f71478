"""The samples whose gradients are taken, and how their pixels become network inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mnist_exp.train.random_state import random_state_kept, seed_random


@dataclass(frozen=True)
class Samples:
    """Some rows of a data set.

    Parameters
    ----------
    images
        uint8 [M, ...], of the whole data set.
    labels
        int64 [M].
    ids
        int64 [N], the chosen rows; the sample ids in every file.
    prepare
        From uint8 images [B, ...] to network inputs, float [B, C, H, W], on the model's device. If
        random (augmentation), it draws from torch's global generator, so that a second pass gets
        the same inputs.
    augmented
        Whether ``prepare`` augments.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    prepare: Callable[[Tensor], Tensor]
    augmented: bool

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, labels and ids of the samples from ``start`` up to ``stop``."""
        ids = self.ids[start:stop]
        where = ids.to(self.images.device)
        return self.images[where], self.labels[where], ids

    def subset(self, count: int | None, choice: str, seed: int) -> Samples:
        """Take ``count`` samples, the ``first`` or ``random`` ones; None: all."""
        if count is None or count >= len(self):
            return self
        if choice == "first":
            return replace(self, ids=self.ids[:count])
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self), generator=generator)[:count].sort().values
        return replace(self, ids=self.ids[chosen.to(self.ids.device)])


def pixel_values(samples: Samples) -> Tensor | None:
    """Return the network input of each of the 256 pixel values, [256].

    None if ``prepare`` does not map every pixel by the same function: then stored pixels cannot
    restore the inputs.
    """
    if samples.augmented or samples.images.dtype != torch.uint8 or not len(samples):
        return None
    images = samples.images
    shades = torch.arange(256, dtype=torch.uint8, device=images.device)
    flat = shades.reshape(256, *[1] * (images.ndim - 1)).expand(256, *images.shape[1:])
    values = samples.prepare(flat.contiguous()).flatten(1)
    table = values[:, 0]
    if not bool((values == table.unsqueeze(1)).all()):
        return None
    some = samples.rows(0, 64)[0]
    same = torch.equal(table[some.flatten().long()], samples.prepare(some).flatten())
    return table if same else None


@contextmanager
def replayed_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that torch uses on ``device``, and restore them afterwards.

    The generators are global to the process: use this in one Python thread at a time.
    """
    with random_state_kept(device):
        seed_random(device, seed)
        yield

"""What all folds of a run share, built once in a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.experiment import build
from mnist_exp.train.loop import Recipe


@dataclass(frozen=True)
class Parts:
    """What all folds of a run share.

    Attributes
    ----------
    config : DictConfig
        The whole configuration.
    device : torch.device
        Where the networks train.
    dataset : Dataset
        What the indices of the splits point into.
    splits : sequence of Split
        Images to train, validate and test on; one, or one a fold.
    images : Images
        The data set on the device.
    recipe : Recipe
        The fixed settings of the training loop.
    """

    config: DictConfig
    device: torch.device
    dataset: Dataset
    splits: Sequence[Split]
    images: Images
    recipe: Recipe


def build_parts(config: DictConfig, splits: Sequence[Split] | None = None) -> Parts:
    """Build what the folds of a run share, from splits that are drawn already where given.

    Raises
    ------
    UserError
        If a part refuses its settings.
    """
    device = build.prepare_torch(config)
    dataset = build.build_dataset(config)
    if splits is None:
        splits = build.build_splits(config, dataset)
    return Parts(
        config=config,
        device=device,
        dataset=dataset,
        splits=splits,
        images=build.build_images(config, dataset, device),
        recipe=build.build_recipe(config, device),
    )

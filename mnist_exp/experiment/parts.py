"""Data and settings shared by all folds of a run, built once per process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from omegaconf import DictConfig

from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.experiment import build
from mnist_exp.experiment.functions import build_loss, build_metrics
from mnist_exp.run.pretrained import Pretrained
from mnist_exp.train.callback import Callback
from mnist_exp.train.loop import Recipe
from mnist_exp.train.metrics import Metric


@dataclass(frozen=True)
class Parts:
    """Data and settings shared by all folds of a run.

    Attributes
    ----------
    config : DictConfig
        The whole configuration.
    device : torch.device
        Where the networks train.
    dataset : Dataset
        Indexed by the splits.
    splits : sequence of Split
        A single split, or one per fold.
    images : Images
        The data set on the device.
    recipe : Recipe
        The fixed settings of the training loop.
    metrics : mapping
        Measured on validation and test images besides loss and accuracy, by name.
    pretrained : Pretrained or None
        Weights that all networks start from.
    callbacks : mapping
        Of the run's caller, by name, besides those of the configuration.
    in_sweep : bool
        Whether the run is a job of a sweep, which leaves less behind unless asked for more.
    """

    config: DictConfig
    device: torch.device
    dataset: Dataset
    splits: Sequence[Split]
    images: Images
    recipe: Recipe
    metrics: Mapping[str, Metric]
    pretrained: Pretrained | None = None
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    in_sweep: bool = False


def build_parts(
    config: DictConfig, splits: Sequence[Split] | None = None, in_sweep: bool = False
) -> Parts:
    """Build the shared parts of a run, drawing the splits unless they are given.

    ``in_sweep`` is as in `Parts`.

    Raises
    ------
    UserError
        If a part rejects its settings.
    """
    device = build.prepare_torch(config)
    pretrained = build.build_pretrained(config)
    dataset = build.build_dataset(config)
    if splits is None:
        splits = build.build_splits(config, dataset)
    return Parts(
        config=config,
        device=device,
        dataset=dataset,
        splits=splits,
        images=build.build_images(config, dataset, device),
        recipe=build.build_recipe(config, device, build_loss(config, dataset.num_classes, device)),
        metrics=build_metrics(config),
        pretrained=pretrained,
        in_sweep=in_sweep,
    )

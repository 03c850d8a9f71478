"""Settings, MNIST samples and a small network for the tests of gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mnist_exp.data import Dataset
from mnist_exp.data.batches import Augmentation, Images
from mnist_exp.gradients import CollectionSettings, GradientCollector, Samples
from mnist_exp.models import MLP
from mnist_exp.train.state import TrainState
from mnist_exp.train.training import Recipe, Training


def collection_settings(**changes: Any) -> CollectionSettings:
    values: dict[str, Any] = {
        "parameters": None,
        "format": "factored",
        "dtype": "float32",
        "dropout": False,
        "label_smoothing": 0.0,
        "cosine": True,
        "top_k": 5,
        "working_memory": 1,
        "seed": 0,
    }
    return CollectionSettings(**(values | changes))


def normalise(pixels: Tensor) -> Tensor:
    return pixels.unsqueeze(1).float().mul(1 / (255 * 0.3081)).sub(0.1307 / 0.3081)


def shifted(pixels: Tensor) -> Tensor:
    """Normalise and shift by a random amount from torch's global generator."""
    return torch.roll(normalise(pixels), int(torch.randint(-3, 4, ())), dims=-1)


def shift(images: Tensor, *, generator: Generator, erase_value: float) -> Tensor:
    """Shift by a random amount, with the signature of a training augmentation."""
    return torch.roll(images, int(torch.randint(-3, 4, (), generator=generator)), dims=-1)


def images_of(dataset: Dataset) -> Images:
    return Images(dataset, device=torch.device("cpu"), mean=0.1307, std=0.3081)


def begin(
    collector: GradientCollector,
    model: nn.Module,
    dataset: Dataset,
    ids: Tensor,
    directory: Path,
    *,
    augmentation: Augmentation | None = None,
) -> TrainState:
    """Bind a collector to a training of 3 epochs in batches of 25, and start it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    state = TrainState(model, optimizer, torch.Generator().manual_seed(1))
    collector.on_train_start(state, training_on(dataset, ids, directory, augmentation))
    return state


def training_on(
    dataset: Dataset, ids: Tensor, directory: Path, augmentation: Augmentation | None = None
) -> Training:
    recipe = Recipe(3, 25, 0.0, "fp32", "stop", augmentation)
    return Training(images_of(dataset), ids, recipe, run=directory)


def samples_of(dataset: Dataset, ids: Tensor, *, augmented: bool = False) -> Samples:
    prepare = shifted if augmented else normalise
    return Samples(dataset.images, dataset.labels, ids, prepare, augmented)


def small_network(dropout: float = 0.0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(hidden_sizes=[16], num_classes=10, activation="relu", dropout=dropout)


def gradients_one_at_a_time(model: nn.Module, samples: Samples) -> dict[str, Tensor]:
    """Differentiate sample by sample, in the model's current mode: {parameter: [N, *shape]}."""
    names, weights = zip(*model.named_parameters(), strict=True)
    rows = []
    for i in range(len(samples)):
        images, labels, _ = samples.rows(i, i + 1)
        loss = nn.functional.cross_entropy(model(samples.prepare(images)), labels)
        rows.append(torch.autograd.grad(loss, weights))
    return {n: torch.stack(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """Concatenate all parameters to one row per sample: float64 [N, P]."""
    return torch.cat([g.flatten(1) for g in gradients.values()], dim=1).double()

"""The network of a finished training, rebuilt from its configuration and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.data.dataset import MNIST_SHAPE, ImageShape, sha256, shown_size
from mnist_exp.device.reading.layers import restarted
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.constraint import build_constraint
from mnist_exp.experiment.fold import fold_seed
from mnist_exp.run.directory import splits_sha256
from mnist_exp.run.weights import SavedWeights
from mnist_exp.train.backprop.autograd import fast_products
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.torch_settings import apply_torch_settings, torch_settings_restored
from mnist_exp.wording import counted


def trained_model(
    config: DictConfig,
    weights: SavedWeights,
    num_classes: int,
    image_shape: ImageShape = MNIST_SHAPE,
    fold: int | None = None,
) -> nn.Module:
    """Build the network of a configuration on the CPU, in eval mode, with saved weights.

    A device constraint is attached, so that its mapping computes the weights from the
    conductances. torch's global random generator is left as it was.

    Parameters
    ----------
    config : DictConfig
        The configuration that trained it; the targets of ``model`` and ``constraint`` are called.
    weights : SavedWeights
        Its weights, from `mnist_exp.run.weights.read_weights`.
    num_classes : int
        Number of outputs.
    image_shape : tuple of int
        Channels, height and width of the images.
    fold : int or None
        The one it was trained in; its seed draws the noise of arrays that are read.

    Raises
    ------
    UserError
        If the network cannot be built, or the weights do not fit it.
    """
    with torch.random.fork_rng(devices=[]):
        model = build.build_model(config, num_classes, image_shape)
        build.set_memory_format(config, model)
        constraint = build_constraint(config)
        if constraint is not None:
            constraint.attach(model, seed=fold_seed(config.seed, fold))
    try:
        model.load_state_dict(dict(weights.state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{weights.file}: its weights do not fit model._target_="
            f"{config.model.get('_target_')} with the run's settings: {error}"
        ) from error
    return model.eval()


@dataclass(frozen=True)
class Conditions:
    """How a run computed its results: on which device and in which precision."""

    device: torch.device
    precision: str


@contextmanager
def conditions_of(config: DictConfig, results: Mapping[str, Any]) -> Iterator[Conditions]:
    """Compute as the run did in a block: device, threads, precision; then restore torch's settings.

    Where torch finds no such device here, it is the CPU.
    """
    name = results.get("device", config.runtime.device)
    try:
        device = compute_device(name)
    except UserError:
        device = torch.device("cpu")
    precision = results.get("precision") or build.precision_on(device, config)
    with torch_settings_restored():
        apply_torch_settings(config.deterministic)
        torch.set_num_threads(results.get("threads") or torch.get_num_threads())
        yield Conditions(device, precision)


@torch.no_grad()
def predicted_logits(
    model: nn.Module, images: Images, *, batch_size: int, precision: str
) -> Tensor:
    """Return the logits, float32 [N, K] on the CPU, of all images, computed as `evaluate` does."""
    indices = torch.arange(len(images.labels), device=images.device)
    logits = []
    with restarted(model):
        for inputs, _ in images.batches(indices, batch_size):
            with fast_products(images.device, precision):
                logits.append(model(inputs).float().cpu())
    return torch.cat(logits)


def image_shape_of(results: Mapping[str, Any]) -> ImageShape:
    """Return channels, height and width of a run's images; older ones trained on MNIST's."""
    channels, height, width = results.get("image_shape", MNIST_SHAPE)
    return channels, height, width


def as_dataset(images: Any, class_names: tuple[str, ...], results: Mapping[str, Any]) -> Dataset:
    """Return images, an array or tensor, as a data set on the CPU; their labels mean nothing.

    Raises
    ------
    UserError
        Unless they are uint8 and of the channels, height and width of the run's, one or several.
    """
    channels, *shape = image_shape_of(results)
    shape = shape if channels == 1 else [channels, *shape]
    pixels = images.cpu() if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    several = len(shape) + 1
    fits = pixels.ndim in (several - 1, several) and list(pixels.shape[1 - several :]) == shape
    if pixels.dtype != torch.uint8 or not fits:
        raise UserError(
            f"images: are {pixels.dtype} {list(pixels.shape)}; give pixels from 0 to 255 as uint8 "
            f"[N, {', '.join(map(str, shape))}], or {shape} for one image. The run's own "
            "normalisation is applied."
        )
    each = pixels.reshape(-1, *shape)
    labels = torch.zeros(len(each), dtype=torch.int64)
    return Dataset("images", each, labels, 0, class_names)


def splits_of(
    config: DictConfig, dataset: Dataset, results: Mapping[str, Any], directory: Path
) -> list[Split]:
    """Return the splits of a run, drawn again.

    Raises
    ------
    UserError
        If ``dataset`` is not the data of the run, or the cv scheme draws other images now.
    """
    if results.get("data_sha256") not in (None, sha256(dataset)):
        raise UserError(
            f"{directory}: {dataset.name} is no longer the data of the run. Put the files back as "
            "they were."
        )
    splits = build.build_splits(config, dataset)
    now = splits_sha256({split.fold: split.sha256() for split in splits})
    if results.get("splits_sha256") not in (None, now):
        raise UserError(
            f"{directory}: the cv scheme draws other images now than in the run; give the splitter "
            "a seed (cv.random_state)."
        )
    return splits


def check_fits(
    dataset: Dataset,
    class_names: tuple[str, ...],
    results: Mapping[str, Any],
    directory: Path,
) -> None:
    """Check that a data set has as many classes and the size of images of the run's.

    Raises
    ------
    UserError
        If it has not.
    """
    wanted = image_shape_of(results)
    if dataset.image_shape != wanted:
        raise UserError(
            f"{dataset.name} has images of {shown_size(dataset.image_shape)}, {directory} was "
            f"trained on {shown_size(wanted)}."
        )
    if dataset.num_classes != len(class_names):
        raise UserError(
            f"{dataset.name} has {counted(dataset.num_classes, 'class', 'classes')}, {directory} "
            f"has {len(class_names)}: {', '.join(class_names)}. Give data with as many classes, or "
            "choose them (data.classes, Dataset.select_classes)."
        )

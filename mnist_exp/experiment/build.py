"""Build data, network, recipe and training state from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import LBFGS

from mnist_exp.cv import PooledFolds, Scheme, Split, stratified_subset
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.data.dataset import MNIST_SHAPE, ImageShape
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import attach, build_constraint, follow
from mnist_exp.experiment.dataset import described_dataset
from mnist_exp.experiment.instantiate import (
    argument_names,
    call_target,
    find_target,
    takes_argument,
)
from mnist_exp.experiment.optimization import build_optimizer, build_scheduler, scheduler_monitor
from mnist_exp.models.parametrizations import check_shapes, check_weights
from mnist_exp.optim.weight_averaging import averaged_model
from mnist_exp.run.pretrained import Pretrained, read_pretrained
from mnist_exp.train.backprop.choose import fast_precision
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.loop import Recipe, TrainState
from mnist_exp.train.losses import Loss
from mnist_exp.train.monitor import NO_METRICS
from mnist_exp.train.torch_settings import apply_torch_settings
from mnist_exp.train.training import batches_an_epoch

MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def prepare_torch(config: DictConfig) -> torch.device:
    """Apply ``deterministic`` to torch and return the compute device."""
    device = compute_device(config.runtime.device)
    apply_torch_settings(config.deterministic)
    return device


def build_dataset(config: DictConfig) -> Dataset:
    """Load the data set, with its classes and their names as ``data`` says."""
    return described_dataset(config)


def build_splits(config: DictConfig, dataset: Dataset) -> list[Split]:
    """Return the cross-validation splits, with training sets reduced to ``data.subset``."""
    scheme = call_target(config, "cv")
    if not hasattr(scheme, "splits"):
        scheme = PooledFolds(scheme)
    splits: list[Split] = _checked(scheme).splits(dataset, config.seed)
    if config.data.subset is not None:
        splits = [
            Split(
                stratified_subset(split.train, dataset.labels, config.data.subset, config.seed),
                split.validation,
                split.test,
                split.fold,
            )
            for split in splits
        ]
    for split in splits:
        split.check(len(dataset.images))
    return splits


def _checked(scheme: Any) -> Scheme:
    if isinstance(scheme, PooledFolds) and not hasattr(scheme.splitter, "split"):
        raise UserError(
            f"cv._target_: {type(scheme.splitter).__name__} is not a splitter; give a class with "
            "split(X, y), such as sklearn.model_selection.ShuffleSplit."
        )
    return scheme


def pixel_mean_std(config: DictConfig, dataset: Callable[[], Dataset]) -> tuple[float, float]:
    """Return the mean and std that normalise pixels in [0, 1], as ``data`` specifies.

    ``dataset`` loads the training data; it is called only where they follow from it.
    """
    if config.data.normalization != "mean_std":
        return 0.0, 1.0
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None:
        own_mean, own_std = dataset().pixel_mean_std()
        mean = own_mean if mean is None else mean
        std = own_std if std is None else std
    if std == 0:
        raise UserError(f"data.std: every pixel of {dataset().name} is equal; set data.std=1.")
    return mean, std


def build_images(
    config: DictConfig,
    dataset: Dataset,
    device: torch.device,
    scale: tuple[float, float] | None = None,
) -> Images:
    """Put the images on the device, normalised by ``scale`` or else as ``data`` specifies."""
    mean, std = pixel_mean_std(config, lambda: dataset) if scale is None else scale
    return Images(
        dataset,
        device=device,
        mean=mean,
        std=std,
        memory_format=MEMORY_FORMATS[config.training.memory_format],
    )


def build_model(
    config: DictConfig, num_classes: int, image_shape: ImageShape = MNIST_SHAPE
) -> nn.Module:
    """Build the network; a target that takes ``num_classes`` gets it.

    One that names ``image_shape`` (channels, height, width), ``in_channels`` or ``in_features``
    (all pixels) among its arguments gets those of the images, unless ``model`` sets them.
    """
    target = find_target(config, "model")
    sizes = {
        "in_features": prod(image_shape),
        "in_channels": image_shape[0],
        "image_shape": image_shape,
    }
    extra: dict[str, Any] = {}
    if target is not None:
        own = argument_names(target).keys() - {k for k, v in config.model.items() if v is not None}
        extra = {name: value for name, value in sizes.items() if name in own}
        if takes_argument(target, "num_classes"):
            extra["num_classes"] = num_classes
    model = call_target(config, "model", **extra)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model._target_={config.model.get('_target_')}: must make a torch.nn.Module."
        )
    check_shapes(model, "model")
    return model


def set_memory_format(config: DictConfig, model: nn.Module) -> None:
    """Lay out the weights as ``training.memory_format`` says; LBFGS takes contiguous ones only."""
    if find_target(config, "optimizer") is not LBFGS:
        model.to(memory_format=MEMORY_FORMATS[config.training.memory_format])


def precision_on(device: torch.device, config: DictConfig) -> str:
    """Return ``training.precision``, with "auto" resolved to the faster one for this model."""
    if config.training.precision != "auto":
        precision: str = config.training.precision
        return precision
    return fast_precision(device, find_target(config, "model"))


def build_recipe(config: DictConfig, device: torch.device, loss: Loss | None = None) -> Recipe:
    """Collect the fixed settings of the training loop; ``loss`` as `Recipe` takes it."""
    training = config.training
    return Recipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        label_smoothing=training.label_smoothing,
        precision=precision_on(device, config),
        on_nan=training.on_nan,
        augmentation=call_target(config, "augmentation"),
        log_every=training.log_every,
        loss=loss,
    )


def build_pretrained(config: DictConfig) -> Pretrained | None:
    """Read the weights that ``model.weights`` names; None for a training from random ones."""
    path = config.model.get("weights")
    return None if path is None else read_pretrained(Path(path))


def build_state(
    config: DictConfig,
    num_classes: int,
    train_size: int,
    device: torch.device,
    seed: int,
    validated: bool = True,
    metrics: Mapping[str, Any] = NO_METRICS,
    pretrained: Pretrained | None = None,
    image_shape: ImageShape = MNIST_SHAPE,
) -> TrainState:
    """Build the model, its optimizer, scheduler and constraint; ``seed`` draws the weights.

    ``validated`` says whether there are validation images, and ``metrics`` what is measured on them
    besides loss and accuracy: the scheduler may monitor it. Pretrained weights take their place
    before the constraint maps them to conductances.
    """
    torch.manual_seed(seed)
    model = build_model(config, num_classes, image_shape)
    if pretrained is not None:
        pretrained.load_into(model, config.model.get("strict", True))
    model.to(device)
    set_memory_format(config, model)
    constraint = build_constraint(config)
    averaging = config.training.averaging
    if constraint is not None:
        if averaging is not None:
            raise UserError(
                f"training.averaging={averaging}: averaged weights leave the device's grid; "
                "set training.averaging=null or constraint=none."
            )
        attach(constraint, model, seed)
    optimizer = build_optimizer(config, model)
    follow(constraint, optimizer)
    averaged = None
    if averaging is not None:
        check_weights(model, "training.averaging")
        averaged = averaged_model(model, averaging, config.training.averaging_warmup)
    batches = batches_an_epoch(train_size, config.training.batch_size)
    scheduler = build_scheduler(config, optimizer, batches, metrics)
    return TrainState(
        model=model,
        optimizer=optimizer,
        generator=torch.Generator(device).manual_seed(seed),
        scheduler=scheduler,
        scheduler_interval=config.scheduler.interval,
        scheduler_monitor=scheduler_monitor(config, scheduler, validated, metrics),
        constraint=constraint,
        averaged=averaged,
    )

"""Build device, data, model and training objects from the configuration."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_exp.cv import PooledFolds, Scheme, Split, stratified_subset
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import build_constraint
from mnist_exp.experiment.instantiate import call_target, find_target
from mnist_exp.models.parametrizations import check_shapes, check_weights
from mnist_exp.optim.schedule import check_schedule
from mnist_exp.optim.weight_averaging import averaged_model
from mnist_exp.schema import LENGTH_ARGUMENTS
from mnist_exp.train.backprop.choose import fast_precision
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.loop import Recipe, TrainState
from mnist_exp.train.losses import Loss

MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def prepare_torch(config: DictConfig) -> torch.device:
    """Apply ``deterministic`` to torch and return the compute device."""
    device = compute_device(config.runtime.device)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA refuses without it
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.backends.cudnn.benchmark = not config.deterministic
    return device


def build_dataset(config: DictConfig) -> Dataset:
    """Load the data set, restricted to ``data.classes`` if set."""
    dataset: Dataset = call_target(config, "data")
    classes = config.data.classes
    return dataset if classes is None else dataset.select_classes(list(classes))


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
            f"cv._target_: {type(scheme.splitter).__name__} is no splitter; give a class with "
            "split(X, y), such as sklearn.model_selection.ShuffleSplit."
        )
    return scheme


def build_images(config: DictConfig, dataset: Dataset, device: torch.device) -> Images:
    """Put the images on the device, normalised as ``data`` specifies."""
    mean, std = 0.0, 1.0
    if config.data.normalization == "mean_std":
        mean, std = config.data.mean, config.data.std
        if mean is None or std is None or config.data.classes is not None:
            own_mean, own_std = dataset.pixel_mean_std()
            mean = own_mean if mean is None else mean
            std = own_std if std is None else std
        if std == 0:
            raise UserError(f"data.std: every pixel of {dataset.name} is equal; set data.std=1.")
    return Images(
        dataset,
        device=device,
        mean=mean,
        std=std,
        memory_format=MEMORY_FORMATS[config.training.memory_format],
    )


def build_model(config: DictConfig, num_classes: int) -> nn.Module:
    """Build the network with ``num_classes`` outputs."""
    model = call_target(config, "model", num_classes=num_classes)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model._target_={config.model.get('_target_')}: must make a torch.nn.Module."
        )
    check_shapes(model, "model")
    return model


def build_optimizer(config: DictConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer; ``training.decay_norm_and_bias`` sets whether vectors decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[Any] = parameters
    if not config.training.decay_norm_and_bias:
        # weights have 2 or more dimensions; biases and normalisation scales have 1
        groups = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    optimizer = call_target(config, "optimizer", groups)
    if not isinstance(optimizer, Optimizer):
        raise UserError(
            f"optimizer._target_={config.optimizer.get('_target_')}: must make a "
            "torch.optim.Optimizer."
        )
    return optimizer


def build_scheduler(
    config: DictConfig, optimizer: Optimizer, batches_per_epoch: int
) -> LRScheduler | None:
    """Build the scheduler; null lengths become the run's, a null ``max_lr`` the optimizer's lr.

    Raises
    ------
    UserError
        If the schedule is shorter than the training, or the scheduler rejects its settings.
    """
    settings = config.scheduler
    length = scheduler_steps(config, batches_per_epoch)
    derived: dict[str, Any] = {
        name: length for name in LENGTH_ARGUMENTS if name in settings and settings[name] is None
    }
    _check_length(settings, length)
    if "max_lr" in settings and settings.max_lr is None:
        derived["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    if settings.get("cycle_momentum") and not has_momentum(optimizer):
        derived["cycle_momentum"] = False  # else OneCycleLR fails, or adds momentum to plain SGD
    scheduler: LRScheduler | None = call_target(config, "scheduler", optimizer, **derived)
    return scheduler


def scheduler_steps(config: DictConfig, batches_per_epoch: int) -> int:
    """Return the number of scheduler steps in a run."""
    epochs: int = config.training.epochs
    return epochs * (batches_per_epoch if config.scheduler.interval == "step" else 1)


def check_rates(config: DictConfig, model: nn.Module, train_size: int) -> bool:
    """Check the learning rates and momenta of a whole run with `check_schedule`.

    Returns
    -------
    bool
        Whether any rate or momentum changes.
    """
    batches = batches_an_epoch(config, train_size)
    return check_schedule(
        build_optimizer(config, model),
        lambda optimizer: build_scheduler(config, optimizer, batches),
        scheduler_steps(config, batches),
        (_with_settings(config, "optimizer"), _with_settings(config, "scheduler")),
    )


def batches_an_epoch(config: DictConfig, train_size: int) -> int:
    """Return the number of batches in an epoch, counting a smaller last one."""
    batch_size: int = config.training.batch_size
    return -(-train_size // batch_size)


def _with_settings(config: DictConfig, group: str) -> str:
    """Format a group with its target and non-null settings, for messages."""
    settings = [f"{k}={v}" for k, v in config[group].items() if k != "_target_" and v is not None]
    return f"{group}: {config[group].get('_target_')} with {', '.join(settings)}"


def _check_length(settings: DictConfig, length: int) -> None:
    total = settings.get("total_steps") or length
    rising = settings.get("pct_start", 0.0)
    if not (isinstance(total, int) and isinstance(rising, float)):
        return  # the scheduler reports the bad type itself
    if total < length:
        raise UserError(
            f"scheduler.total_steps={total}: the training has {length} steps; set it to at "
            "least that, or to null for the whole run."
        )
    if math.isclose(rising * total, 1.0):
        raise UserError(
            f"scheduler.pct_start={rising}: of {total} steps the rate would rise in "
            "one, which OneCycleLR cannot; train longer, or give another share."
        )


def has_momentum(optimizer: Optimizer) -> bool:
    """Return whether the optimizer has a momentum or beta1 that a scheduler can change."""
    return "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))


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


def build_state(
    config: DictConfig, num_classes: int, train_size: int, device: torch.device, seed: int
) -> TrainState:
    """Build the model, its optimizer, scheduler and constraint; ``seed`` draws the weights."""
    torch.manual_seed(seed)
    model = build_model(config, num_classes).to(device)
    model.to(memory_format=MEMORY_FORMATS[config.training.memory_format])
    constraint = build_constraint(config)
    averaging = config.training.averaging
    if constraint is not None:
        if averaging is not None:
            raise UserError(
                f"training.averaging={averaging}: averaged weights leave the device's grid; "
                "set training.averaging=null or constraint=none."
            )
        constraint.attach(model, seed=seed)
    optimizer = build_optimizer(config, model)
    averaged = None
    if averaging is not None:
        check_weights(model, "training.averaging")
        averaged = averaged_model(model, averaging, config.training.averaging_warmup)
    batches = batches_an_epoch(config, train_size)
    return TrainState(
        model=model,
        optimizer=optimizer,
        generator=torch.Generator(device).manual_seed(seed),
        scheduler=build_scheduler(config, optimizer, batches),
        scheduler_interval=config.scheduler.interval,
        constraint=constraint,
        averaged=averaged,
    )

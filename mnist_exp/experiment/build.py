"""Build device, data, model and training objects from the configuration."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    _LRScheduler,
)

from mnist_exp.cv import PooledFolds, Scheme, Split, stratified_subset
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import build_constraint
from mnist_exp.experiment.instantiate import call_target, find_target, takes_argument
from mnist_exp.models.parametrizations import check_shapes, check_weights
from mnist_exp.optim.schedule import check_schedule, steps_alone
from mnist_exp.optim.weight_averaging import averaged_model
from mnist_exp.run.pretrained import Pretrained, read_pretrained
from mnist_exp.schema import LENGTH_ARGUMENTS
from mnist_exp.train.backprop.choose import fast_precision
from mnist_exp.train.compute_device import compute_device
from mnist_exp.train.loop import Recipe, TrainState
from mnist_exp.train.losses import Loss
from mnist_exp.train.monitor import NO_METRICS, check_column, column_of, mode_of

MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
# Classes of torch that no configuration makes work, with the reason.
OF_PARTS = (
    "is made of schedulers that need the optimizer, which a configuration cannot give them; name a "
    "function of the optimizer that returns it (docs/extending.md)"
)
REFUSED: dict[type, str] = {
    Optimizer: "is the base class of optimizers",
    LRScheduler: "is the base class of schedulers",
    _LRScheduler: "is the base class of schedulers",
    SparseAdam: "takes sparse gradients only, which no network here has; use optimizer=adam",
    torch.optim.Muon: "takes matrices only, and biases are vectors; use optimizer=muon",
    SequentialLR: OF_PARTS,
    ChainedScheduler: OF_PARTS,
}


def prepare_torch(config: DictConfig) -> torch.device:
    """Apply ``deterministic`` to torch and return the compute device."""
    device = compute_device(config.runtime.device)
    set_deterministic(config)
    return device


def set_deterministic(config: DictConfig) -> None:
    """Apply ``deterministic`` to torch."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA refuses without it
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.backends.cudnn.benchmark = not config.deterministic


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


def build_model(config: DictConfig, num_classes: int) -> nn.Module:
    """Build the network; a target that takes ``num_classes`` gets it."""
    target = find_target(config, "model")
    extra = {}
    if target is not None and takes_argument(target, "num_classes"):
        extra["num_classes"] = num_classes
    model = call_target(config, "model", **extra)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model._target_={config.model.get('_target_')}: must make a torch.nn.Module."
        )
    check_shapes(model, "model")
    return model


@torch.no_grad()
def check_logits(config: DictConfig, model: nn.Module, inputs: Tensor, num_classes: int) -> None:
    """Check that the network maps ``inputs`` [B, 1, 28, 28] to logits [B, num_classes].

    Raises
    ------
    UserError
        With the sizes, or with what the network's ``forward`` raised and where.
    """
    name, was_training = config.model.get("_target_"), model.training
    try:
        logits = model.eval()(inputs)
    except RuntimeError as error:  # torch's, such as for sizes that do not fit
        raise UserError(
            f"model: {name} fails on a batch of images {list(inputs.shape)}: "
            f"{type(error).__name__}: {error}{_place(error)}."
        ) from error
    except Exception:  # a bug of the network's: training ends with its traceback
        return
    finally:
        model.train(was_training)
    expected = [len(inputs), num_classes]
    if not isinstance(logits, Tensor) or list(logits.shape) != expected:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"model: {name} gives {found} for a batch of images {list(inputs.shape)}; expected are "
            f"logits {expected}, one a class. Give the last layer {num_classes} outputs."
        )


def _place(error: Exception) -> str:
    """Return " (file, line)" of the user's code that raised; empty if torch's layers alone did."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    torchs = os.path.dirname(torch.__file__)
    own = [frame for frame in frames if not frame.filename.startswith((torchs, "<"))]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def build_optimizer(config: DictConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer; ``training.decay_norm_and_bias`` sets whether vectors decay."""
    _check_target(config, "optimizer")
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[Any] = parameters
    if not config.training.decay_norm_and_bias:
        if find_target(config, "optimizer") is LBFGS:
            raise UserError(
                "training.decay_norm_and_bias=false: torch.optim.LBFGS has no weight decay and "
                "takes all parameters as one group; set it to true."
            )
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


def _check_target(config: DictConfig, group: str) -> None:
    target = find_target(config, group)
    reason = REFUSED.get(target) if isinstance(target, type) else None
    if reason is not None:
        raise UserError(f"{group}._target_={config[group].get('_target_')}: {reason}.")


def build_scheduler(
    config: DictConfig,
    optimizer: Optimizer,
    batches_per_epoch: int,
    metrics: Mapping[str, Any] = NO_METRICS,
) -> LRScheduler | None:
    """Build the scheduler; null lengths become the run's, a null ``max_lr`` the optimizer's lr.

    A null ``mode`` becomes that of the monitored value, which may be one of ``metrics``.

    Raises
    ------
    UserError
        If the schedule is shorter than the training, or the scheduler rejects its settings.
    """
    _check_target(config, "scheduler")
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
    if find_target(config, "scheduler") is ReduceLROnPlateau and settings.get("mode") is None:
        derived["mode"] = mode_of(column_of(settings.get("monitor") or "validation_loss"), metrics)
    scheduler: LRScheduler | None = call_target(config, "scheduler", optimizer, **derived)
    if scheduler is not None and not isinstance(scheduler, LRScheduler):
        raise UserError(
            f"scheduler._target_={settings.get('_target_')}: must make a "
            "torch.optim.lr_scheduler.LRScheduler."
        )
    return scheduler


def scheduler_monitor(
    config: DictConfig,
    scheduler: LRScheduler | None,
    validated: bool,
    metrics: Mapping[str, Any] = NO_METRICS,
) -> str | None:
    """Return the column whose value the scheduler is stepped with, or None if it takes none.

    If ``scheduler.monitor`` is null or absent, it is the validation loss, or the training loss in a
    run without validation images.

    Raises
    ------
    UserError
        If the scheduler takes a value, but is stepped after batches or the value does not exist;
        or if it takes none, but ``scheduler.monitor`` is set.
    """
    given, target = config.scheduler.get("monitor"), config.scheduler.get("_target_")
    if scheduler is None or steps_alone(scheduler):
        if given is not None:
            raise UserError(f"scheduler.monitor={given}: {target} monitors nothing; remove it.")
        return None
    if config.scheduler.interval != "epoch":
        raise UserError(
            f"scheduler.interval={config.scheduler.interval}: {target} is stepped with a value of "
            "the epoch; set scheduler.interval=epoch."
        )
    column = column_of(given or ("validation_loss" if validated else "train_loss"))
    check_column(column, f"scheduler.monitor={given}", validated, metrics, ("train", "validation"))
    return column


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
) -> TrainState:
    """Build the model, its optimizer, scheduler and constraint; ``seed`` draws the weights.

    ``validated`` says whether there are validation images, and ``metrics`` what is measured on them
    besides loss and accuracy: the scheduler may monitor it. Pretrained weights take their place
    before the constraint maps them to conductances.
    """
    torch.manual_seed(seed)
    model = build_model(config, num_classes)
    if pretrained is not None:
        pretrained.load_into(model, config.model.get("strict", True))
    model.to(device)
    if find_target(config, "optimizer") is not LBFGS:  # which takes contiguous weights only
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

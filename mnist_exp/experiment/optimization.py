"""Build the optimizer and its scheduler from the configuration, and check their rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    _LRScheduler,
)

from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import call_target, find_target
from mnist_exp.optim.schedule import check_schedule, steps_alone
from mnist_exp.schema import LENGTH_ARGUMENTS
from mnist_exp.train.monitor import NO_METRICS, check_column, column_of, mode_of
from mnist_exp.train.training import batches_an_epoch
from mnist_exp.wording import counted

ROUNDING = 1e-9  # share by which a length may be off
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
    if _rises_in_one_step(settings, length):  # OneCycleLR would divide by the 0 steps in between
        derived["pct_start"] = settings.pct_start * (1 + ROUNDING)
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
    batches = batches_an_epoch(train_size, config.training.batch_size)
    return check_schedule(
        build_optimizer(config, model),
        lambda optimizer: build_scheduler(config, optimizer, batches),
        scheduler_steps(config, batches),
        (_with_settings(config, "optimizer"), _with_settings(config, "scheduler")),
    )


def _with_settings(config: DictConfig, group: str) -> str:
    """Format a group with its target and non-null settings, for messages."""
    settings = [f"{k}={v}" for k, v in config[group].items() if k != "_target_" and v is not None]
    return f"{group}: {config[group].get('_target_')} with {', '.join(settings)}"


def _check_length(settings: DictConfig, length: int) -> None:
    total = settings.get("total_steps") or length
    if isinstance(total, int) and total < length:  # the scheduler reports another type itself
        raise UserError(
            f"scheduler.total_steps={total}: the training has {counted(length, 'step')}; set it to "
            "at least that, or to null for the whole run."
        )


def _rises_in_one_step(settings: DictConfig, length: int) -> bool:
    total, rising = settings.get("total_steps") or length, settings.get("pct_start")
    known = isinstance(total, int) and isinstance(rising, float) and rising < 1
    return known and math.isclose(rising * total, 1.0)


def has_momentum(optimizer: Optimizer) -> bool:
    """Return whether the optimizer has a momentum or beta1 that a scheduler can change."""
    return "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))

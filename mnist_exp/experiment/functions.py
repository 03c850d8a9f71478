"""The loss and the metrics of a run: functions of logits and labels, named in the configuration."""

from __future__ import annotations

import copy
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import (
    argument_names,
    find_target,
    function_of,
    settings,
    target_path,
)
from mnist_exp.run.saved_config import PLAIN_LOSS
from mnist_exp.train.losses import Loss, apply_loss
from mnist_exp.train.metrics import TAKEN, Metric
from mnist_exp.train.random_state import random_state_kept

INPUTS = ("logits", "labels")
SMOOTHING = "label_smoothing"


def build_loss(config: DictConfig, num_classes: int, device: torch.device) -> Loss | None:
    """Build the loss; None for plain cross-entropy with ``training.label_smoothing``.

    Lists become tensors on ``device`` where the target takes tensors, such as a weight per class.

    Raises
    ------
    UserError
        If the target rejects its settings, or its value on a batch is no scalar tensor.
    """
    if config.loss == PLAIN_LOSS:
        return None
    target = find_target(config, "loss")
    assert target is not None, "a rule of the schema"
    annotations = argument_names(target)
    derived: dict[str, Any] = {}
    if takes_label_smoothing(config):
        derived[SMOOTHING] = config.training.label_smoothing
    for name, value in settings(config, "loss").items():
        if isinstance(value, list) and "Tensor" in annotations.get(name, ""):
            try:
                derived[name] = torch.tensor(value, dtype=torch.float32, device=device)
            except (TypeError, ValueError) as error:
                raise UserError(f"loss.{name}={value}: is not a tensor ({error}).") from error
    loss: Loss = function_of(config, "loss", INPUTS, **derived)
    if isinstance(loss, nn.Module):
        loss.to(device)
        if any(p.requires_grad for p in loss.parameters()):
            raise UserError(
                f"loss._target_={target_path(config, 'loss')}: has parameters, which no optimizer "
                "would train. Put them into the model, or set requires_grad to False."
            )
    _try(loss, num_classes, device)
    return loss


def takes_label_smoothing(config: DictConfig) -> bool:
    """Whether ``training.label_smoothing`` has an effect on the loss."""
    target = find_target(config, "loss")
    return (
        target is not None and SMOOTHING in argument_names(target) and SMOOTHING not in config.loss
    )


def _try(loss: Loss, num_classes: int, device: torch.device) -> None:
    """Call the loss once, without consequences, so that a mistake shows before training."""
    logits = torch.zeros(num_classes, num_classes, device=device, requires_grad=True)
    with random_state_kept(device):
        apply_loss(copy.deepcopy(loss), logits, torch.arange(num_classes, device=device))


def build_metrics(config: DictConfig) -> dict[str, Metric]:
    """Build the metrics, by name.

    Raises
    ------
    UserError
        If a name is taken or a target rejects its settings.
    """
    metrics = {}
    for name in config.metrics:
        if name in TAKEN:
            raise UserError(f"metrics.{name}: every evaluation has a {name}; take another name.")
        metrics[str(name)] = function_of(config, f"metrics.{name}", INPUTS)
    return metrics

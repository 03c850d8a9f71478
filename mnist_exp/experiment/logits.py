"""Check what the network gives for a batch, before it trains."""

from __future__ import annotations

import os
import traceback
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

import mnist_exp
from mnist_exp.errors import UserError


def check_logits(
    config: DictConfig,
    model: nn.Module,
    inputs: Tensor,
    num_classes: int,
    training: bool = False,
) -> Tensor:
    """Return the logits [B, num_classes] to which the network maps a batch, once they are checked.

    ``training`` says whether in training mode, and with gradients; the network's own is restored.

    Raises
    ------
    UserError
        With the sizes, or with what the network's ``forward`` raised and where.
    """
    name, was_training = config.model.get("_target_"), model.training
    mode = " in training mode" if training else ""
    try:
        with torch.set_grad_enabled(training):
            logits = model.train(training)(inputs)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model: {name} fails on a batch of images {list(inputs.shape)}{mode}: "
            f"{type(error).__name__}: {error}{place_of(error)}."
        ) from error
    finally:
        model.train(was_training)
    expected = [len(inputs), num_classes]
    fits = isinstance(logits, Tensor) and list(logits.shape) == expected
    if not fits or not logits.is_floating_point():
        found = _described(logits)
        raise UserError(
            f"model: {name} gives {found} for a batch of images {list(inputs.shape)}{mode}; "
            f"expected are logits {expected}, one per class"
            + (". Convert them to float." if fits else f". {_last_layer(logits, num_classes)}")
        )
    return logits


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"{list(output.shape)}" + ("" if output.is_floating_point() else f" {output.dtype}")
    return f"a {type(output).__name__}"


def _last_layer(output: Any, num_classes: int) -> str:
    if isinstance(output, Tensor):
        return f"Give the last layer {num_classes} outputs."
    return "Return the tensor of logits alone from forward."


def place_of(error: Exception) -> str:
    """Return " (file, line)" of the user's code that raised; empty if torch's layers alone did."""
    frames = traceback.extract_tb(error.__traceback__)
    known = (os.path.dirname(torch.__file__), os.path.dirname(mnist_exp.__file__), "<")
    own = [frame for frame in frames if not frame.filename.startswith(known)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""

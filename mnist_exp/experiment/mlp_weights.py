"""The weights of an MLP for readers that know plain torch only: ``mnist_mlp.pth``."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn

from mnist_exp.files.atomic import write_atomic
from mnist_exp.models import MLP


def export_weights(model: nn.Module, path: Path) -> None:
    """Write an MLP's effective weights as a plain ``state_dict``; other models write no file."""
    if isinstance(model, MLP):
        weights = {}
        for index, layer in enumerate(model.network):
            for name in ("weight", "bias"):
                if hasattr(layer, name):
                    weights[f"network.{index}.{name}"] = getattr(layer, name).detach().cpu()
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_atomic(path, buffer.getvalue())

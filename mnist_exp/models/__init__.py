"""The networks. A model is an ``nn.Module`` from images [B, 1, 28, 28] to logits."""

from torch import nn

from mnist_exp.models.cnn import CNN20k, CNN21k
from mnist_exp.models.mlp import MLP

__all__ = ["MLP", "CNN20k", "CNN21k", "count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

"""The networks. A model is an ``nn.Module`` from images [B, C, H, W] to logits."""

from mnist_exp.models.batch_norm import BatchNorm2d, FusedSequential
from mnist_exp.models.cnn import CNN20k, CNN21k
from mnist_exp.models.mlp import MLP
from mnist_exp.models.parametrizations import count_parameters
from mnist_exp.models.stages import Stages

__all__ = [
    "MLP",
    "BatchNorm2d",
    "CNN20k",
    "CNN21k",
    "FusedSequential",
    "Stages",
    "count_parameters",
]

"""The networks. A model is an ``nn.Module`` from images [B, 1, 28, 28] to logits."""

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from mnist_exp.models.cnn import CNN20k, CNN21k
from mnist_exp.models.mlp import MLP
from mnist_exp.models.parametrizations import parametrizations
from mnist_exp.models.stages import Stages

__all__ = ["MLP", "CNN20k", "CNN21k", "Stages", "count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters; a parametrized one counts as the weight it stands for.

    What several layers share counts once.
    """
    weights: dict[object, int] = {}
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            continue  # the originals; the weight itself is counted with its layer
        weights |= {p: p.numel() for p in module.parameters(recurse=False) if p.requires_grad}
        for name, behind in parametrizations(module).items():
            weights[behind] = getattr(module, name).numel()
    return sum(weights.values())

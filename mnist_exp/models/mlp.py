"""The multilayer perceptron: all pixels, any hidden layers, one logit per class."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mnist_exp.models.stages import Stages
from mnist_exp.schema.parts import MLP as MLP_RULES
from mnist_exp.schema.rule import check_settings

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


class MLP(nn.Module):
    """Linear layers with an activation, and optional dropout, between them.

    Parameters
    ----------
    hidden_sizes : sequence of int
        Width of each hidden layer; empty for a linear classifier.
    num_classes : int
        Number of logits.
    activation : str
        One of ``ACTIVATIONS``.
    dropout : float
        Probability, in [0, 1), of dropping a hidden unit after its activation.
    in_features : int
        Number of inputs per sample.
    generator : torch.Generator or None
        Of the initial weights, on the CPU; None: torch's global generator.

    Raises
    ------
    UserError
        If the activation is unknown, a size is below 1 or dropout is outside [0, 1).
    """

    fixed_operations = True

    def __init__(
        self,
        *,
        hidden_sizes: Sequence[int] = (512,),
        num_classes: int = 10,
        activation: str = "relu",
        dropout: float = 0.0,
        in_features: int = 28 * 28,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        settings = {"hidden_sizes": hidden_sizes, "activation": activation, "dropout": dropout}
        check_settings(MLP_RULES, settings | {"in_features": in_features}, "model")
        layers: list[nn.Module] = []
        sizes = [in_features, *hidden_sizes]
        for fan_in, fan_out in pairwise(sizes):
            layers += [_linear(fan_in, fan_out, generator), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(_linear(sizes[-1], num_classes, generator))
        self.network = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, num_classes]`` of ``images`` ``[B, ...]``, flattened per sample."""
        logits: Tensor = self.network(images.flatten(1))  # (B, C, H, W) -> (B, C*H*W)
        return logits

    def stages(self) -> Stages | None:
        """Declare the layers of `forward`; None with dropout or an activation other than ReLU."""
        linear, between = list(self.network[::2]), self.network[1::2]
        if not all(type(activation) is nn.ReLU for activation in between):
            return None
        if not all(isinstance(layer, nn.Linear) for layer in linear):
            return None
        return [], linear  # type: ignore[return-value]


def _linear(fan_in: int, fan_out: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer initialised as ``nn.Linear`` does, from this generator."""
    if generator is None:
        return nn.Linear(fan_in, fan_out)
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    assert isinstance(layer, nn.Linear)  # for the type checker
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer

"""Training under device constraints, written like the published script.

784-100-10, batch 128: DataLoader over a TensorDataset, autograd, the first layer's gradient norm
per batch, and torch.where, clamp and round for each parameter.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mnist_exp.data import load_mnist
from tests.benchmarks.loops import Epoch

W_MIN, W_MAX, LEVELS, RETENTION, LR_POS, LR_NEG = 0.1, 0.51, 100, 1e-5, 0.1, 0.103
STEP = (W_MAX - W_MIN) / (LEVELS - 1)
MOMENTUM = 0.9  # as with constraint=memristor
BATCH_SIZE = 128


class ScriptPairs(nn.Module):
    """784-100-10 with two conductances per weight, the straightforward way."""

    def __init__(self) -> None:
        super().__init__()
        self.plus, self.minus, self.bias = (nn.ParameterList() for _ in range(3))
        for inputs, outputs in ((784, 100), (100, 10)):
            layer = nn.Linear(inputs, outputs)
            middle = (W_MIN + W_MAX) / 2
            self.plus.append(nn.Parameter(middle + layer.weight.detach() / 2))
            self.minus.append(nn.Parameter(middle - layer.weight.detach() / 2))
            self.bias.append(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(F.linear(x, self.plus[0] - self.minus[0], self.bias[0]))
        return F.linear(hidden, self.plus[1] - self.minus[1], self.bias[1])


def published_script() -> Epoch:
    """Every parameter a conductance, rounded to the nearest level."""
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    return _script(model, stochastic=False)


def memristor_script() -> Epoch:
    """Differential pairs, stochastic rounding, free biases, momentum."""
    return _script(ScriptPairs(), stochastic=True)


def _script(model: nn.Module, stochastic: bool) -> Epoch:
    dataset = load_mnist()
    images = (dataset.train_images.float() / 255).reshape(-1, 784)  # [60000, 784]
    training = TensorDataset(images, dataset.train_labels)
    loader = DataLoader(training, batch_size=BATCH_SIZE, shuffle=True)
    return lambda: _epoch(model, loader, stochastic)


def _epoch(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], stochastic: bool) -> None:
    held = [p for name, p in model.named_parameters() if not (stochastic and "bias" in name)]
    norms = []  # of the first layer's gradient, as the published script reports
    velocity = {p: torch.zeros_like(p) for p in model.parameters()}
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        model.zero_grad()
        loss.backward()
        norms.append(next(model.parameters()).grad.norm().item())  # type: ignore[union-attr]
        with torch.no_grad():
            for p in model.parameters():
                g = p.grad
                assert g is not None
                if stochastic:
                    g = velocity[p] = MOMENTUM * velocity[p] + g
                p.copy_(p - torch.where(g >= 0, LR_NEG, LR_POS) * g)
            for p in held:
                p.copy_(p - RETENTION * (p - W_MIN))
                p.copy_(torch.clamp(p, W_MIN, W_MAX))
                level = (p - W_MIN) / STEP
                rounded = torch.floor(level + torch.rand_like(p)) if stochastic else level.round()
                p.copy_(W_MIN + STEP * rounded)

"""Time of an epoch under device constraints, against the same thing written as a plain script.

784-100-10, batch 128, one fold of the pooled MNIST (56,000 images). The scripts follow the
published one: a DataLoader over a TensorDataset, autograd, and torch.where, clamp and round for
each parameter. All variants take turns in one process with equal threads.

    python -m tests.benchmarks.bench_constraints
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mnist_exp.data import load_mnist
from mnist_exp.device import DeviceConstraint
from mnist_exp.optim import AsymmetricSGD
from tests.device_settings import device_settings

W_MIN, W_MAX, LEVELS, RETENTION, LR_POS, LR_NEG = 0.1, 0.51, 100, 1e-5, 0.1, 0.103
STEP = (W_MAX - W_MIN) / (LEVELS - 1)
BATCH_SIZE = 128
Batches = Iterable[tuple[Tensor, Tensor]]
Epoch = Callable[[], None]


class ScriptPairs(nn.Module):
    """784-100-10 with two conductances a weight, as one would write it first."""

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


def script_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))


def script_epoch(model: nn.Module, loader: Batches, stochastic: bool) -> None:
    """Train an epoch the way of the published script."""
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
                if stochastic:  # the recipe of constraint=memristor has momentum
                    g = velocity[p] = 0.9 * velocity[p] + g
                p.copy_(p - torch.where(g >= 0, LR_NEG, LR_POS) * g)
            for p in held:
                p.copy_(p - RETENTION * (p - W_MIN))
                p.copy_(torch.clamp(p, W_MIN, W_MAX))
                level = (p - W_MIN) / STEP
                rounded = torch.floor(level + torch.rand_like(p)) if stochastic else level.round()
                p.copy_(W_MIN + STEP * rounded)


def device_resident_batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in torch.randperm(len(images)).split(BATCH_SIZE):
        yield images.index_select(0, batch), labels.index_select(0, batch)


def our_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    constraint: DeviceConstraint | None,
    images: Tensor,
    labels: Tensor,
) -> None:
    """Train an epoch in a bare device-resident loop."""
    for inputs, targets in device_resident_batches(images, labels):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if constraint is not None:
            constraint.step()


def ours(option: str, images: Tensor, labels: Tensor, momentum: float = 0.0) -> Epoch:
    """Return an epoch of a fresh network under an option of the group ``constraint``."""
    model = script_network()
    constraint = None
    optimizer: torch.optim.Optimizer
    if option == "none":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=True)
    else:
        constraint = DeviceConstraint(**device_settings(option))
        constraint.attach(model, seed=0)
        optimizer = AsymmetricSGD(
            model.parameters(), lr_pos=LR_POS, lr_neg=LR_NEG, momentum=momentum
        )
    return partial(our_epoch, model, optimizer, constraint, images, labels)


def script(option: str, images: Tensor, labels: Tensor) -> Epoch:
    """Return an epoch of the script with the same limits."""
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH_SIZE, shuffle=True)
    stochastic = option == "memristor"
    model = ScriptPairs() if stochastic else script_network()
    return partial(script_epoch, model, loader, stochastic)


def works(rounds: int = 5) -> dict[str, float]:
    """Return the median seconds of an epoch of each variant, measured in turn after a warm-up."""
    dataset = load_mnist()
    images = (dataset.images[:56_000].float() / 255).reshape(-1, 784)  # [56000, 784]
    labels = dataset.labels[:56_000]
    torch.manual_seed(0)
    variants = {
        "unconstrained, ours": ours("none", images, labels),
        "published, ours": ours("published", images, labels),
        "published, script": script("published", images, labels),
        "memristor, ours": ours("memristor", images, labels, momentum=0.9),
        "memristor, script": script("memristor", images, labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, epoch in variants.items():
            started = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    """Print the table."""
    medians = works()
    free = medians["unconstrained, ours"]
    print(f"784-100-10, 56,000 images, batch {BATCH_SIZE}, {torch.get_num_threads()} thread(s)")
    print(f"{'variant':22} {'s/epoch':>8} {'x unconstrained':>16} {'script / ours':>14}")
    for name, median in medians.items():
        ours_of_it = medians.get(name.replace("script", "ours"), median)
        gain = f"{median / ours_of_it:.1f}" if "script" in name else ""
        print(f"{name:22} {median:8.3f} {median / free:16.2f} {gain:>14}")


if __name__ == "__main__":
    main()

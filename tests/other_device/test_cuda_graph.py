"""Batches recorded as a CUDA graph train as they do without, on an NVIDIA GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.models import MLP, CNN20k, CNN21k
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import backpropagation, description
from mnist_exp.train.backprop.cuda_graph import WARM_UP, InCudaGraph
from mnist_exp.train.torch_settings import apply_torch_settings, torch_settings_restored

pytestmark = pytest.mark.other_device

NETWORKS: dict[str, Any] = {
    "cnn20k": lambda: CNN20k(dropout=(0.1, 0.1)),
    "cnn21k": CNN21k,
    "mlp": lambda: MLP(hidden_sizes=[32]),
    "tanh": lambda: MLP(hidden_sizes=[32], activation="tanh", dropout=0.2),
}


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's settings in a run; other tests have the defaults."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch_settings_restored():
        apply_torch_settings(True)
        yield


def batches(device: torch.device, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator(device).manual_seed(0)
    return [
        (
            torch.randn(size, 1, 28, 28, device=device, generator=generator),
            torch.randint(10, (size,), device=device, generator=generator),
        )
        for size in sizes
    ]


def trained(model: nn.Module, way: Any, data: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return losses and weights after steps of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(1)
    losses = []
    for inputs, labels in data:
        loss, logits = way(inputs, labels)
        assert logits.shape == (len(labels), 10)
        losses.append(loss)
        optimizer.step()
    return [*losses, *(tensor.detach() for tensor in model.state_dict().values())]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_those_without_a_graph(
    nvidia: torch.device, deterministic: None, name: str, precision: str
) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name]().to(nvidia)
    other = copy.deepcopy(model)
    data = batches(nvidia, *[64] * 12, 20, 64, 64)
    way = backpropagation(model, 0.1, precision)
    found = trained(model, way, data)
    expected = trained(other, Autograd(other, 0.1, precision), data)
    recorded = way if isinstance(way, InCudaGraph) else way.way  # type: ignore[attr-defined]
    assert recorded.graph is not None
    assert description(model, precision, None).endswith("in a CUDA graph")
    if name != "mlp":
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    else:  # the chain rule of linear layers rounds in another way
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


def test_a_parameter_elsewhere_in_memory_is_trained_too(nvidia: torch.device) -> None:
    model = CNN21k().to(nvidia)
    way = backpropagation(model, 0.0, "fp32")
    data = batches(nvidia, *[32] * (WARM_UP + 2))
    trained(model, way, data)
    model.out.bias.data = torch.full((10,), 3.0, device=nvidia)
    _, logits = way(*data[0])
    torch.testing.assert_close(logits, model(data[0][0]).detach(), rtol=1e-3, atol=1e-3)


class LooksAtValues(nn.Module):
    """Its branch depends on values, although it declares that none does."""

    fixed_operations = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits if logits.sum().item() > 0 else -logits


def test_a_wrong_declaration_is_named(nvidia: torch.device) -> None:
    way = backpropagation(LooksAtValues().to(nvidia), 0.0, "fp32")
    *first, last = batches(nvidia, *[8] * (WARM_UP + 1))
    for batch in first:
        way(*batch)
    with pytest.raises(UserError, match=r"LooksAtValues declares fixed_operations .* recorded"):
        way(*last)
    assert torch.ones(2, device=nvidia).sum().item() == 2

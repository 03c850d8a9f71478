"""Which parameters devices hold: shared ones once, and no tensor that only looks like one."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.optim import SGD

from mnist_exp.errors import UserError
from mnist_exp.gradients import PerSampleModel
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.models.parametrizations import count_parameters
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.train.backprop.choose import backpropagation
from tests.helpers.device_nets import FLAWS, SEED_LIMITS, attached, train_steps


class Tied(nn.Module):
    """12-12-12-3; the first two layers share weight and bias."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b, self.out = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.b.weight, self.b.bias = self.a.weight, self.a.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x).tanh()).tanh())


def loss_of(model: nn.Module) -> Tensor:
    inputs = torch.randn(8, 12, generator=torch.Generator().manual_seed(3))
    return F.cross_entropy(model(inputs), torch.arange(8) % 3)


@pytest.mark.parametrize("rounding", ["stochastic", "straight_through"])
@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
def test_layers_that_share_a_weight_share_its_devices(mapping: str, rounding: str) -> None:
    model = Tied()
    constraint = attached(
        model, mapping=mapping, W_min=-1.0, W_max=1.0, quantize=True, rounding=rounding,
        bias="constrained", levels=300,
    )  # fmt: skip
    train_steps(model, SGD(model.parameters(), lr=0.5), constraint, 5)
    assert torch.equal(model.a.weight, model.b.weight)
    assert torch.equal(model.a.bias, model.b.bias)
    devices = (12 * 12 + 12 + 12 * 3 + 3) * (2 if mapping == "differential" else 1)
    assert constraint.histogram()[1].sum() == devices
    assert sum(p.numel() for p in model.parameters()) == devices
    assert count_parameters(model) == count_parameters(Tied()) == 12 * 12 + 12 + 12 * 3 + 3


@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
def test_ideal_devices_train_a_tied_network_as_it_trains_without_them(mapping: str) -> None:
    """Gradients of both uses add up in the devices; both halves of a pair move."""
    model, plain = Tied(), Tied()
    constraint = attached(model, mapping=mapping, W_min=-50.0, W_max=50.0)
    torch.testing.assert_close(loss_of(model), loss_of(plain), rtol=1e-4, atol=1e-5)
    loss_of(plain).backward()
    loss_of(model).backward()
    held = [p for name, p in model.named_parameters() if "original" in name]
    weight = held[0] if held else model.a.weight
    torch.testing.assert_close(weight.grad, plain.a.weight.grad, rtol=1e-3, atol=1e-5)
    for net in (model, plain):
        SGD([p for n, p in net.named_parameters() if "bias" not in n], lr=0.1).step()
    constraint.step()
    share = 2 if mapping == "differential" else 1
    moved = model.a.weight - Tied().a.weight
    expected = share * (plain.a.weight - Tied().a.weight)
    torch.testing.assert_close(moved, expected, rtol=1e-2, atol=1e-4)


def test_a_tied_network_is_saved_copied_and_resumed_with_its_ties() -> None:
    def start(seed: int) -> tuple[Tied, AsymmetricSGD, object]:
        model = Tied(seed)
        constraint = attached(model, **FLAWS)
        return (
            model,
            AsymmetricSGD(model.parameters(), lr_pos=0.1, lr_neg=0.1, momentum=0.9),
            (constraint),
        )

    whole, stopped, resumed = start(0), start(0), start(4)
    train_steps(*whole, 5)  # type: ignore[arg-type]
    train_steps(*whole, 5, seed=1)  # type: ignore[arg-type]
    train_steps(*stopped, 5)  # type: ignore[arg-type]
    file = io.BytesIO()
    torch.save([part.state_dict() for part in stopped], file)  # type: ignore[attr-defined]
    file.seek(0)
    for part, saved in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(saved)  # type: ignore[attr-defined]
    train_steps(*resumed, 5, seed=1)  # type: ignore[arg-type]
    for one, other in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(one, other)
    copied = copy.deepcopy(resumed[0])
    assert torch.equal(copied.a.weight, copied.b.weight)
    assert len(list(copied.parameters())) == len(list(whole[0].parameters()))
    effective = effective_copy(resumed[0])
    assert isinstance(effective, Tied)
    assert effective.a.weight is effective.b.weight
    assert torch.equal(effective.a.weight, resumed[0].b.weight)


def test_per_sample_gradients_of_a_tied_weight_on_devices() -> None:
    """They are gradients by the effective weight, summed over all its uses."""
    model, labels = Tied(), torch.arange(4) % 3
    attached(model, mapping="differential", **SEED_LIMITS)
    inputs = torch.randn(4, 12)
    ours = PerSampleModel(
        model, inputs[:2], parameters=["a.weight"], dropout=False, label_smoothing=0.0
    )(inputs, labels).gradients["a.weight"]
    effective = effective_copy(model)
    for i in range(4):
        loss = F.cross_entropy(effective(inputs[i : i + 1]), labels[i : i + 1])
        (true,) = torch.autograd.grad(loss, [effective.get_parameter("a.weight")])
        torch.testing.assert_close(ours.dense()[i], true, rtol=1e-3, atol=1e-6)


def test_the_written_out_chain_rule_leaves_tied_layers_to_autograd() -> None:
    def tied() -> MLP:
        torch.manual_seed(0)
        model = MLP(
            hidden_sizes=[12, 12], num_classes=12, activation="relu", dropout=0.0, in_features=12
        )
        model.network[4].weight = model.network[2].weight
        attached(model, mapping="differential", **SEED_LIMITS)
        return model

    inputs, labels = torch.randn(8, 12), torch.arange(8)
    model, by_autograd = tied(), tied()
    backpropagation(model, 0.0, "fp32")(inputs, labels)
    F.cross_entropy(by_autograd(inputs), labels).backward()
    for p, q in zip(model.parameters(), by_autograd.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


class TiedToEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(3, 12), nn.Linear(12, 3)
        self.out.weight = self.words.weight


def two_names(model: nn.Linear) -> nn.Linear:
    model.register_parameter("other", model.get_parameter("weight"))
    return model


def buffer_for_weight(layer: nn.Linear) -> nn.Linear:
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)
    return layer


def same_memory() -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 7), nn.Linear(7, 12))
    model[1].weight = nn.Parameter(model[0].get_parameter("weight").detach().T)
    return model


def norm(layer: nn.Module) -> nn.Module:
    return parametrizations.weight_norm(layer)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("mapping", ["direct", "differential"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.utils.weight_norm(nn.Linear(12, 3)), r"0\.weight \(Linear\) is not a param"),
        (lambda: nn.utils.spectral_norm(nn.Conv2d(1, 2, 3)), r"0\.weight \(Conv2d\) is not a"),
        (lambda: prune.l1_unstructured(nn.Linear(12, 3), "weight", 3), r"0\.weight \(Linear\)"),
        (lambda: norm(nn.Linear(12, 3)), r"0\.weight \(Linear\) is parametrized already"),
        (lambda: buffer_for_weight(nn.Linear(12, 3)), r"0\.weight \(Linear\) is a Tensor, not a"),
        (lambda: nn.LazyLinear(3), r"0\.weight \(LazyLinear\) has no shape yet"),
        (same_memory, r"0\.1\.weight and 0\.0\.weight are two parameters in the same memory"),
    ],
)
def test_what_devices_cannot_hold_is_refused_by_name(
    make: Callable[[], nn.Module], message: str, mapping: str
) -> None:
    with pytest.raises(UserError, match=message):
        attached(nn.Sequential(make()), mapping=mapping)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (TiedToEmbedding, r"out\.weight is words\.weight \(Embedding\) as well"),
        (lambda: two_names(nn.Linear(12, 3)), r"weight is other \(Linear\) as well"),
    ],
)
def test_a_weight_that_is_no_synapse_elsewhere_can_only_be_mapped_directly(
    make: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        attached(make(), mapping="differential")
    model = make()
    attached(model, W_min=-0.01, W_max=0.01).step()
    assert all(p.abs().max() <= 0.01 for p in model.parameters() if p.ndim > 1)
    assert len([p for p in model.parameters() if p.ndim > 1]) == 1


@pytest.mark.parametrize("mapping", ["direct", "differential"])
def test_frozen_weights_are_held_and_drift(mapping: str) -> None:
    model = nn.Linear(12, 3).requires_grad_(False)
    constraint = attached(model, mapping=mapping, **SEED_LIMITS, retain=True, retention=0.5)
    for _ in range(60):
        constraint.step()
    assert not any(p.requires_grad for p in model.parameters())
    at_rest = 0.0 if mapping == "differential" else 0.1
    torch.testing.assert_close(model.weight, torch.full((3, 12), at_rest))

"""Losses equal slow, obvious versions; any but plain cross-entropy trains with autograd."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.errors import UserError
from mnist_exp.models import MLP, CNN20k, CNN21k
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import backpropagation, description, fastest_way
from mnist_exp.train.functions import FunctionFailed
from mnist_exp.train.losses import apply_loss, cross_entropy, focal, mse

WEIGHT = torch.tensor([1.0, 2.0, 0.0, 0.5])


def batch(samples: int = 30, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.arange(samples) % classes


@pytest.mark.parametrize("weight", [None, WEIGHT.double()])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_torch(weight: Tensor | None, smoothing: float) -> None:
    logits, labels = batch()
    expected = nn.CrossEntropyLoss(weight, label_smoothing=smoothing)(logits, labels)
    assert cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing) == expected


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, WEIGHT.double()])
def test_focal_is_the_obvious_one(gamma: float, alpha: Tensor | None) -> None:
    logits, labels = batch()
    expected = 0.0
    for row, label in zip(logits.softmax(1), labels.tolist(), strict=True):
        p = row[label].item()
        weight = 1.0 if alpha is None else alpha[label].item()
        expected -= weight * (1 - p) ** gamma * torch.log(row[label]).item() / len(labels)
    assert focal(logits, labels, gamma=gamma, alpha=alpha).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: focal(x, labels, gamma=gamma, alpha=alpha), (logits,))


def test_focal_with_gamma_0_is_cross_entropy() -> None:
    logits, labels = batch()
    assert focal(logits, labels, gamma=0.0).item() == pytest.approx(
        F.cross_entropy(logits, labels).item()
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_certainty_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[1e4, 0.0], [1e4, 0.0]], requires_grad=True)
    loss = focal(logits, torch.tensor([0, 1]), gamma=gamma)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_mse_is_the_obvious_one() -> None:
    logits, labels = batch()
    expected = [
        (logits[i, k].item() - (labels[i] == k).item()) ** 2
        for i in range(len(labels))
        for k in range(4)
    ]
    assert mse(logits, labels).item() == pytest.approx(sum(expected) / len(expected))
    assert torch.autograd.gradcheck(lambda x: mse(x, labels), (logits,))


@pytest.mark.parametrize(
    "loss", [partial(cross_entropy, weight=WEIGHT), partial(focal, alpha=WEIGHT)]
)
def test_weights_of_another_number_of_classes_are_refused(loss: partial[Tensor]) -> None:
    with pytest.raises(UserError, match=r"loss\.\w+=\[1.0, .*\]: allowed is a number for each"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda logits, labels: 0.5, "float"),
        (lambda logits, labels: None, "NoneType"),
        (lambda logits, labels: logits.sum(1), r"Tensor \[30\] with grad"),
        (lambda logits, labels: logits.detach().sum(), r"Tensor \[\] without grad"),
    ],
)
def test_a_loss_that_is_no_scalar_of_the_logits_is_refused(wrong: object, kind: str) -> None:
    with pytest.raises(UserError, match=rf"loss \(.*lambda.*\): returns a {kind}"):
        apply_loss(wrong, *batch())  # type: ignore[arg-type]


def test_an_error_names_the_loss() -> None:
    with pytest.raises(FunctionFailed, match=r"loss \(torch.nn.modules.loss.NLLLoss\) failed"):
        apply_loss(nn.NLLLoss(weight=torch.ones(7)), *batch())


@pytest.mark.parametrize("network", [MLP, CNN21k, CNN20k])
def test_another_loss_steps_aside_to_autograd(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = network()
    inputs, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    way = backpropagation(model, 0.1, "fp32", partial(cross_entropy, label_smoothing=0.1))
    assert type(way) is Autograd
    state = torch.get_rng_state()
    loss, logits = way(inputs, labels)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    torch.set_rng_state(state)  # dropout
    expected, same_logits = Autograd(model, 0.1, "fp32")(inputs, labels)
    assert torch.equal(loss, expected)
    assert torch.equal(logits, same_logits)
    own = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(found, own, strict=True))


def test_bf16_gives_the_loss_float32_logits() -> None:
    kinds = []

    def mine(logits: Tensor, labels: Tensor) -> Tensor:
        kinds.append((logits.dtype, torch.is_autocast_enabled("cpu")))
        return mse(logits, labels)

    inputs, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    backpropagation(MLP(), 0.0, "bf16", mine)(inputs, labels)
    assert kinds == [(torch.float32, False)]


def test_the_way_is_described() -> None:
    assert description(MLP(), "fp32", None) == "chain rule of linear layers"
    with_loss = description(MLP(), "fp32", mse)
    assert with_loss == "autograd (chain rule of linear layers: for plain cross-entropy only)"
    for model in (MLP(dropout=0.5), CNN20k()):
        assert description(model, "fp32", mse) == description(model, "fp32", None) == "autograd"
    names = {"CompiledConvolutions": "compiled convolutions"}
    way = type(fastest_way(CNN21k(), 0.0, "fp32")).__name__
    assert description(CNN21k(), "fp32", None) == names.get(way, "autograd on parts of the batch")

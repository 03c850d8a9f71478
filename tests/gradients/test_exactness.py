"""Networks that layer-wise factors do not describe: differentiated another way, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import PerSampleModel, collect, open
from mnist_exp.gradients.factors import DenseGradients, OuterProductGradients
from tests.gradients.test_per_sample import assert_exact
from tests.helpers.gradient_samples import collection_settings, samples_of

Forward = Callable[["TwoLayers", Tensor], Tensor]


class TwoLayers(nn.Module):
    """A 6-6-3 network with a replaceable forward pass."""

    mean: Tensor

    def __init__(self, forward: Forward | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))
        self.listed: list[Tensor] = []
        self.tokens = nn.Parameter(torch.randn(2, 6))
        self.how = forward or plain

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x) + 0 * self.tokens.sum()


def plain(net: TwoLayers, x: Tensor) -> Tensor:
    return net.b(net.a(x).relu())


def weight_once_more(net: TwoLayers, x: Tensor) -> Tensor:
    return net.b(F.linear(net.a(x).tanh(), net.a.weight).tanh())


def divided_by_the_norm(net: TwoLayers, x: Tensor) -> Tensor:
    return net.b(net.a(x).relu()) / net.b.weight.norm()


def two_tokens(net: TwoLayers, x: Tensor) -> Tensor:
    """Feed a layer two rows that are not samples but look like a batch of two."""
    return net.b((x + net.a(net.tokens).sum(0)).tanh())


def centred_on_the_batch(net: TwoLayers, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b((h - h.detach().mean(0)).relu())


def running_mean(net: TwoLayers, x: Tensor) -> Tensor:
    h = net.a(x)
    net.mean.lerp_(h.detach().mean(0), 0.1)
    return net.b((h - net.mean).relu())


def skipped_for_small_inputs(net: TwoLayers, x: Tensor) -> Tensor:
    return net.b(net.a(x) if float(x.detach().sum()) > 0 else x)


def per_sample_model(model: nn.Module, inputs: Tensor, **changes: Any) -> PerSampleModel:
    settings: dict[str, Any] = {"parameters": None, "dropout": False, "label_smoothing": 0.0}
    return PerSampleModel(model, inputs, **(settings | changes))


@pytest.mark.parametrize(
    ("forward", "elsewhere"),
    [
        (weight_once_more, "a.weight"),
        (divided_by_the_norm, "b.weight"),
        (two_tokens, "a.weight"),
    ],
)
def test_a_weight_used_outside_of_its_layer_is_exact_all_the_same(
    forward: Forward, elsewhere: str
) -> None:
    model = TwoLayers(forward).double()
    model.tokens.requires_grad_(forward is two_tokens)
    inputs = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.arange(4) % 3
    chosen = ["a.*", "b.*", *(["tokens"] if forward is two_tokens else [])]
    ours = per_sample_model(model, inputs[:2], parameters=chosen)(inputs, labels).gradients
    weights = [model.get_parameter(name) for name in ours]
    for i in range(4):
        loss = F.cross_entropy(model(inputs[i : i + 1]), labels[i : i + 1])
        true = torch.autograd.grad(loss, weights)
        for (name, form), gradient in zip(ours.items(), true, strict=True):
            torch.testing.assert_close(form.dense()[i], gradient, msg=name)
    assert isinstance(ours[elsewhere], DenseGradients)
    other = "b.weight" if elsewhere == "a.weight" else "a.weight"
    assert isinstance(ours[other], OuterProductGradients)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def test_a_hook_that_changes_outputs_is_followed() -> None:
    model = network()
    model[0].register_forward_hook(lambda layer, _, output: output * layer.weight.norm())
    assert_exact(model.double(), torch.randn(4, 6, dtype=torch.float64))


def test_a_hook_that_holds_the_model_itself_is_refused() -> None:
    """In the differentiated copy, the hook would still use the original model's weight."""
    model = network()
    model[1].register_forward_hook(lambda _, __, output: output * model[0].weight.norm())  # type: ignore[operator]
    with pytest.raises(UserError, match=r"gradients of 0\.weight cannot be taken"):
        per_sample_model(model, torch.randn(2, 6))
    assert per_sample_model(model, torch.randn(2, 6), parameters=["2.*"]).names == [
        "2.weight",
        "2.bias",
    ]


def test_weights_that_hide_a_fault_do_not() -> None:
    """With a last layer of zeros, all earlier gradients are 0, even by a wrong formula."""
    model = TwoLayers(weight_once_more)
    nn.init.zeros_(model.b.weight)
    layers = per_sample_model(model, torch.randn(2, 6), parameters=["a.weight"]).layers
    assert [layer.name for layer in layers] == [""]


@pytest.mark.parametrize("double", [True, False])
def test_honest_networks_keep_their_factors(double: bool) -> None:
    """Also networks that run only in float32, with gradients that are 0 except for rounding."""

    def forward(net: TwoLayers, x: Tensor) -> Tensor:
        h = net.a(x if double else x.float())
        return net.b((h - h.mean(1, keepdim=True)).relu())

    model = TwoLayers(forward)
    nn.init.eye_(model.a.weight)
    nn.init.ones_(model.a.bias)
    layers = per_sample_model(model, torch.randn(2, 6), parameters=["a.*", "b.*"]).layers
    assert [layer.name for layer in layers] == ["a", "b"]


@pytest.mark.parametrize("forward", [centred_on_the_batch, running_mean])
def test_samples_that_change_each_others_loss_are_refused(forward: Forward) -> None:
    with pytest.raises(UserError, match="depends on other samples"):
        per_sample_model(TwoLayers(forward), torch.randn(2, 6))


def test_a_layer_that_other_samples_skip_is_refused_by_name() -> None:
    inputs = torch.rand(4, 6)
    model = per_sample_model(TwoLayers(skipped_for_small_inputs), inputs[:2], parameters=["a.*"])
    with pytest.raises(UserError, match=r"Layer a \(Linear\).*it is not called.*a\.weight"):
        model(-inputs, torch.zeros(4, dtype=torch.int64))


def test_parameters_that_cannot_be_separated_are_named_with_those_that_can() -> None:
    """Autograd sees a weight that is also held in a list; torch.func does not substitute it."""
    model = TwoLayers(lambda net, x: net.b(F.linear(net.a(x), net.listed[0]).tanh()))
    model.listed = [model.a.weight]
    others = r"gradients\.parameters=\[tokens,a\.bias,b\.weight,b\.bias\]"
    with pytest.raises(UserError, match=r"gradients of a\.weight cannot be separated.*" + others):
        per_sample_model(model, torch.randn(2, 6))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.nn.utils.weight_norm, r"0\.weight \(Linear\) is not a parameter"),
        (torch.nn.utils.spectral_norm, r"0\.weight \(Linear\) is not a parameter"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), r"0\.weight \(Linear\)"),
        (lambda _: nn.LazyLinear(6), r"0\.weight \(LazyLinear\) has no shape yet"),
        (lambda layer: layer.requires_grad_(False), "no trainable parameter"),
    ],
)
def test_weights_that_are_no_parameters_are_refused_by_name(
    change: Callable[[nn.Module], nn.Module], message: str
) -> None:
    model = nn.Sequential(change(nn.Linear(6, 3)))
    with pytest.raises(UserError, match=message):
        per_sample_model(model, torch.randn(2, 6))


def test_looking_at_a_spectral_norm_does_not_move_it() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 3))).train()
    copied = per_sample_model(model, torch.randn(2, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied.load_weights(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Pixels(nn.Module):
    """A network for images that uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(784, 8)
        self.b = nn.Linear(8, 8)
        self.out = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        h = self.b(self.a(images.flatten(1)).tanh()).tanh()
        return self.out(F.linear(h, self.b.weight).tanh())


def test_a_collection_holds_the_gradients_of_a_weight_used_twice(
    mnist: Dataset, tmp_path: Path
) -> None:
    model, samples = Pixels(), samples_of(mnist, torch.arange(5))
    random_state = torch.get_rng_state()
    collect(model, samples, tmp_path, collection_settings(), epoch=1)
    assert torch.equal(torch.get_rng_state(), random_state)
    stored = open(tmp_path / "epoch_1")
    for i in range(5):
        images, labels, _ = samples.rows(i, i + 1)
        loss = F.cross_entropy(model(samples.prepare(images)), labels)
        (true,) = torch.autograd.grad(loss, [model.b.weight])
        torch.testing.assert_close(stored["b.weight"][i], true, rtol=1e-4, atol=1e-6)

"""Per-sample gradients equal those of autograd, one sample at a time.

Comparisons are in float64; in float32 both sides carry rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mnist_exp.errors import UserError
from mnist_exp.gradients import PerSampleModel
from mnist_exp.gradients.factors import ConvolutionGradients, OuterProductGradients
from mnist_exp.models import MLP, CNN20k, CNN21k

TOLERANCE = 1e-10  # relative to the gradient's norm; required is 1e-6


def one_at_a_time(
    model: nn.Module, inputs: Tensor, labels: Tensor, weights: list[Tensor], smoothing: float
) -> list[Tensor]:
    """Differentiate sample by sample; return gradients [B, *shape] per weight."""
    rows = []
    for i in range(len(inputs)):
        logits = model(inputs[i : i + 1])
        loss = F.cross_entropy(logits, labels[i : i + 1], label_smoothing=smoothing)
        rows.append(torch.autograd.grad(loss, weights))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def assert_exact(
    model: nn.Module, inputs: Tensor, *, smoothing: float = 0.0, tolerance: float = TOLERANCE
) -> dict[str, object]:
    labels = torch.arange(len(inputs)) % model(inputs).shape[1]
    per_sample = PerSampleModel(
        model, inputs[:2], parameters=None, dropout=False, label_smoothing=smoothing
    )
    batch = per_sample(inputs, labels)
    model.eval()
    parameters = dict(model.named_parameters())
    expected = one_at_a_time(model, inputs, labels, list(parameters.values()), smoothing)
    assert list(batch.gradients) == list(parameters)
    for name, slow in zip(parameters, expected, strict=True):
        ours = batch.gradients[name].dense()
        norms = slow.reshape(len(slow), -1).norm(dim=1)
        assert norms.max() > 0, f"{name}: a test on zero gradients shows nothing"
        error = (ours - slow).reshape(len(slow), -1).norm(dim=1)
        assert (error <= tolerance * norms.clamp(min=1e-12)).all(), name
    return dict(batch.gradients)


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(dtype)


def trained_statistics(model: nn.Module) -> nn.Module:
    """Give BatchNorm running statistics that differ from its initial ones and the batch's."""
    with torch.no_grad():
        for seed in range(3):
            model.train()(images(16, seed + 10))
    return model


MODELS: list[Callable[[], nn.Module]] = [
    lambda: MLP(hidden_sizes=[512], num_classes=10, activation="relu", dropout=0.2),
    lambda: MLP(hidden_sizes=[30, 20], num_classes=10, activation="tanh", dropout=0.0),
    lambda: CNN21k(num_classes=10),
    lambda: CNN20k(num_classes=10, dropout=(0.1, 0.1)),
]


@pytest.mark.parametrize("make", MODELS, ids=["mlp512", "mlp30-20", "cnn21k", "cnn20k"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_models_of_the_family(make: Callable[[], nn.Module], smoothing: float) -> None:
    torch.manual_seed(0)
    model = trained_statistics(make().double())
    assert_exact(model, images(5), smoothing=smoothing)


@pytest.mark.parametrize("make", MODELS, ids=["mlp512", "mlp30-20", "cnn21k", "cnn20k"])
def test_float32_agrees_within_rounding(make: Callable[[], nn.Module]) -> None:
    """Compares float32 with exact float64 gradients; 1e-5 covers the network's own rounding."""
    torch.manual_seed(0)
    model = trained_statistics(make().double())
    inputs, labels = images(5), torch.arange(5)
    keywords = {"parameters": None, "dropout": False, "label_smoothing": 0.0}
    exact = PerSampleModel(model, inputs[:2], **keywords)(inputs, labels)  # type: ignore[arg-type]
    single = PerSampleModel(model.float(), inputs[:2].float(), **keywords)(  # type: ignore[arg-type]
        inputs.float(), labels
    )
    for name, truth in exact.gradients.items():
        error = (single.gradients[name].dense() - truth.dense()).norm()
        assert error <= 1e-5 * truth.dense().norm(), name


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    batch=st.integers(2, 6),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_linear_networks_of_any_shape(sizes: list[int], batch: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip([12, *sizes], [*sizes, 3], strict=True):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.Softplus()]
    model = nn.Sequential(*layers[:-1]).double()
    gradients = assert_exact(model, torch.rand(batch, 12, dtype=torch.float64))
    weights = [form for name, form in gradients.items() if name.endswith("weight")]
    assert all(isinstance(form, OuterProductGradients) for form in weights)


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Conv2d:
    groups = draw(st.integers(1, 2))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    paddings: list[int | str | tuple[int, int]] = [0, 1, (1, 2), "valid"]
    paddings += ["same"] if stride == (1, 1) else []
    padding = draw(st.sampled_from(paddings))
    return nn.Conv2d(
        2 * groups,
        draw(st.integers(1, 3)) * groups,
        kernel_size=draw(st.tuples(st.integers(1, 3), st.integers(1, 4))),
        stride=stride,
        padding=padding,
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"])),
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(layer=convolutions(), batch=st.integers(2, 4), seed=st.integers(0, 99))
def test_convolutions_of_any_geometry(layer: nn.Conv2d, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(layer, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(3))
    inputs = torch.rand(batch, layer.in_channels, 9, 8)
    model(inputs)
    assert_exact(model.double(), inputs.double())


def test_wide_convolutions_stay_factored_and_small_ones_do_not() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(6), nn.Conv2d(2, 64, 3), nn.Flatten(), nn.LazyLinear(3)
    )
    model(images(2, dtype=torch.float32))
    gradients = assert_exact(model.double(), images(3))
    assert not isinstance(gradients["0.weight"], ConvolutionGradients)
    assert isinstance(gradients["2.weight"], ConvolutionGradients)


class Scale(nn.Module):
    """A user-defined layer: a learnt gain per feature and one offset."""

    def __init__(self, features: int):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(features))
        self.offset = nn.Parameter(torch.randn(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x * self.gain) + self.offset


class TiedAutoencoder(nn.Module):
    """One weight used twice, once by a module called twice and once through an alias."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6, bias=False)
        self.decoder = nn.Linear(6, 6)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(torch.tanh(self.encoder(torch.tanh(self.encoder(x))))))


class Tokens(nn.Module):
    """A network with a parameter of the root module, rows that are not samples, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(4, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed = nn.Linear(3, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.reshape(-1, 3)).reshape(-1, 4, 8) + self.position  # (B * 4, 3)
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.head(tokens.mean(1))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(nn.Linear(5, 4), Scale(4), nn.Linear(4, 3)), torch.rand(4, 5)),
        (nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), torch.rand(4, 5)),
        (nn.Sequential(nn.Linear(5, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3)), torch.rand(4, 5)),
        (nn.Sequential(nn.Linear(5, 6), nn.PReLU(), nn.Linear(6, 3)), torch.rand(4, 7, 5)),
        (TiedAutoencoder(), torch.rand(4, 6)),
        (Tokens(), torch.rand(3, 12)),
    ],
    ids=["user layer", "in-place", "group norm", "sequence", "tied", "attention"],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # attention under vmap
def test_other_layers(model: nn.Module, inputs: Tensor) -> None:
    if inputs.ndim == 3:  # [B, T, in]: the loss needs logits [B, classes]
        model = nn.Sequential(model, nn.Flatten(), nn.Linear(21, 3))
    torch.manual_seed(1)
    assert_exact(model.double(), inputs.double())


class Pair(nn.Module):
    """A weight as the difference of two conductances."""

    def forward(self, plus: Tensor, minus: Tensor) -> Tensor:
        return 2 * (plus - minus)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.clamp(min=0) / 2 + 0.1, (-weight).clamp(min=0) / 2 + 0.1


def test_parametrized_weights_are_differentiated_as_they_act() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, labels = torch.rand(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    keywords = {"parameters": None, "dropout": False, "label_smoothing": 0.0}
    expected = PerSampleModel(plain, inputs, **keywords)(inputs, labels)  # type: ignore[arg-type]
    parametrize.register_parametrization(plain[0], "weight", Pair())
    before = plain(inputs)
    model = PerSampleModel(plain, inputs, **keywords)  # type: ignore[arg-type]
    ours = model(inputs, labels)
    assert model.parametrized == ["0.weight"]
    assert set(ours.gradients) == set(expected.gradients)
    for name, form in expected.gradients.items():
        torch.testing.assert_close(ours.gradients[name].dense(), form.dense())
    assert torch.equal(plain(inputs), before)
    assert parametrize.is_parametrized(plain[0])


def test_batch_norm_uses_running_statistics_so_samples_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = trained_statistics(CNN20k(num_classes=10, dropout=(0.1, 0.1)).double()).train()
    inputs, labels = images(6), torch.arange(6)
    per_sample = PerSampleModel(
        model, inputs[:2], parameters=None, dropout=True, label_smoothing=0.0
    )
    torch.manual_seed(5)
    together = per_sample(inputs, labels).gradients["features.10.weight"].dense()
    torch.manual_seed(5)
    # The same first two samples beside others; batch statistics would change their gradients.
    changed = torch.cat([inputs[:2], 1 - inputs[2:]])
    apart = per_sample(changed, labels).gradients["features.10.weight"].dense()
    torch.testing.assert_close(together[:2], apart[:2])


def test_batch_norm_without_running_statistics_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(UserError, match="keeps no running statistics"):
        PerSampleModel(model, torch.rand(3, 4), parameters=None, dropout=False, label_smoothing=0.0)


def test_dropout_as_in_training_or_off() -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3)).train()
    inputs, labels = torch.rand(64, 4), torch.zeros(64, dtype=torch.int64)
    for dropout, low, high in ((True, 0.4, 0.6), (False, -0.01, 0.01)):
        per_sample = PerSampleModel(
            model, inputs, parameters=None, dropout=dropout, label_smoothing=0.0
        )
        zeros = (per_sample(inputs, labels).gradients["0.bias"].dense() == 0).float().mean()
        assert low <= zeros <= high


def test_only_chosen_and_trainable_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    model[0].bias.requires_grad_(False)
    keywords = {"dropout": False, "label_smoothing": 0.0}
    inputs = torch.rand(2, 4)
    assert PerSampleModel(model, inputs, parameters=None, **keywords).names == [  # type: ignore[arg-type]
        "0.weight",
        "1.weight",
        "1.bias",
    ]
    chosen = PerSampleModel(model, inputs, parameters=["1.*"], **keywords)  # type: ignore[arg-type]
    assert list(chosen(inputs, torch.tensor([0, 1])).gradients) == ["1.weight", "1.bias"]
    with pytest.raises(UserError, match=r"'0\.bias' matches no trainable parameter"):
        PerSampleModel(model, inputs, parameters=["0.bias"], **keywords)  # type: ignore[arg-type]


class ScaledRows(nn.Module):
    """Scales the outputs of a frozen layer for the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(28, 32).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(32))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.rows(images.reshape(-1, 28)).view(len(images), -1, 32)
        return tokens.sum(1) * self.scale


def test_a_frozen_layer_within_another_one() -> None:
    images = torch.zeros(3, 3, 28, 28)  # 84 rows each, nearly all of them background
    images[:, 0, 4:9, 5:20] = torch.rand(3, 5, 15)
    model, labels = ScaledRows(), torch.tensor([3, 8, 31])
    scales: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    per_sample = PerSampleModel(
        model, images[:2], parameters=None, dropout=False, label_smoothing=0.0
    )
    (scale,) = one_at_a_time(model, images, labels, scales, 0.0)
    torch.testing.assert_close(per_sample(images, labels).gradients["scale"].dense(), scale)

"""The networks: sizes, shapes, initial loss and the known gradient of the loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mnist_exp.app.commands.check_models import PARAMETERS, main
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.errors import UserError
from mnist_exp.experiment.build import build_model
from mnist_exp.models import MLP
from mnist_exp.models.parametrizations import count_parameters
from tests.conftest import Compose


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(
    compose_config: Compose, name: str, count: int
) -> None:
    model = build_model(compose_config(f"model={name}"), num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.slow
def test_check_models_passes_and_prints_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parameters"]) == 0
    assert main(["shapes"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PARAMETERS)
    assert main(["nonsense"]) == 2


def test_check_models_fails_when_a_count_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMETERS, "mlp", 1)
    assert main(["parameters"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_loss_at_initialisation_is_about_ln_10(
    compose_config: Compose, mnist: Dataset, name: str
) -> None:
    torch.manual_seed(0)
    model = build_model(compose_config(f"model={name}"), num_classes=10).eval()
    images = Images(mnist, device=torch.device("cpu"), mean=0.1307, std=0.3081)
    inputs, labels = images.batch(torch.arange(1000))
    with torch.no_grad():
        loss = F.cross_entropy(model(inputs), labels).item()
    assert loss == pytest.approx(math.log(10), abs=0.12)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 12), batch=st.integers(1, 9))
def test_gradient_on_logits_is_probabilities_minus_one_hot(
    seed: int, classes: int, batch: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(batch, classes, generator=generator)).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator)
    F.cross_entropy(logits, labels, reduction="sum").backward()
    expected = logits.detach().softmax(1) - F.one_hot(labels, classes)
    torch.testing.assert_close(logits.grad, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_last_layer_follows_the_number_of_classes(compose_config: Compose, name: str) -> None:
    model = build_model(compose_config(f"model={name}"), num_classes=26).eval()
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 26)


@given(hidden=st.lists(st.integers(1, 20), max_size=3), classes=st.integers(2, 5))
def test_mlp_has_the_layers_asked_for(hidden: list[int], classes: int) -> None:
    model = MLP(hidden_sizes=hidden, num_classes=classes, activation="relu", dropout=0.0)
    sizes = [784, *hidden, classes]
    expected = sum(a * b + b for a, b in itertools.pairwise(sizes))
    assert count_parameters(model) == expected
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, classes)


def test_mlp_activation_and_dropout_are_configurable(compose_config: Compose) -> None:
    config = compose_config("model=mlp", "model.activation=tanh", "model.dropout=0.3")
    layers = list(build_model(config, num_classes=10).modules())
    assert any(isinstance(layer, nn.Tanh) for layer in layers)
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden_sizes=[0]", r"model\.hidden_sizes=\[0\]"),
        ("model.hidden_sizes=[a]", r"model\.hidden_sizes"),
        ("model.activation=step", "model.activation=step: allowed is relu or tanh or"),
        ("model.dropout=1.0", r"model\.dropout=1\.0"),
    ],
)
def test_bad_mlp_settings_are_refused(compose_config: Compose, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(compose_config("model=mlp", override), num_classes=10)


class LazyNetwork(nn.Sequential):
    """A network that learns its shape from its first input."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))


def test_a_layer_without_a_shape_is_refused_by_name(compose_config: Compose) -> None:
    config = compose_config("model=mlp")
    config.model = {"_target_": f"{__name__}.LazyNetwork"}
    with pytest.raises(UserError, match=r"model: 1\.weight \(LazyLinear\) has no shape yet"):
        build_model(config, num_classes=10)


def test_a_shared_weight_counts_once() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    assert count_parameters(model) == 25 + 5 + 5


def test_weights_drawn_from_a_generator_are_those_of_the_global_one() -> None:
    settings: dict[str, object] = {"hidden_sizes": [20, 7], "num_classes": 3, "dropout": 0.1}
    torch.manual_seed(5)
    expected = MLP(activation="relu", **settings)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    model = MLP(activation="relu", generator=generator, **settings)  # type: ignore[arg-type]
    assert all(map(torch.equal, model.parameters(), expected.parameters()))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(generator.get_state(), before)

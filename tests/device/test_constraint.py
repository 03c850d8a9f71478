"""DeviceConstraint on real networks: order of effects, mappings, resumption, diagnostics."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from mnist_exp.data import Dataset
from mnist_exp.device import DeviceConstraint, LinearStep, ThresholdedWrites, TikiTaka, TikiTakaV2
from mnist_exp.models import CNN20k
from mnist_exp.optim import AsymmetricSGD
from tests.helpers.device_nets import (
    FLAWS,
    SEED_LIMITS,
    STEP,
    attached,
    first_layer,
    small_net,
    train_steps,
)
from tests.helpers.device_settings import device_settings

NOISY = LinearStep(
    gamma_up=0.2,
    gamma_down=0.3,
    origin=0.3,
    device_spread={"step": 0.3, "gamma_up": 0.1, "up_down": 0.1},
    cycle_spread={"step": 0.3, "offset": 0.3, "gamma_down": 0.1},
    write_noise=0.5,
)


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(value)
    return layer


def test_steps_come_in_the_order_update_retention_clip_quantize() -> None:
    """The value is chosen so that any other order of the last three ends on another level."""
    layer = one_weight(0.9)
    constraint = attached(
        layer, W_min=0.0, W_max=1.0, levels=5, quantize=True, rounding="nearest",
        retain=True, retention=0.5, diagnose_every=1,
    )  # fmt: skip
    layer.weight.data.add_(0.5)  # the optimizer's update: 1.4
    constraint.step()
    # 1.4 -> 0.7 -> 0.7 -> 0.75; clip before retention would give 0.5, quantize before it 0.5
    assert layer.weight.item() == 0.75


@pytest.mark.parametrize("effect", ["clip", "quantize", "retain"])
def test_each_effect_has_its_own_switch(effect: str) -> None:
    off = {"clip": False, "quantize": False, "retain": False}
    expected = {"clip": 0.51, "quantize": 0.51, "retain": 0.1 + 0.9 * 0.5}
    layer = one_weight(0.3)
    constraint = attached(layer, **SEED_LIMITS, retention=0.1, **(off | {effect: True}))
    layer.weight.data.fill_(0.6)
    constraint.step()
    assert layer.weight.item() == pytest.approx(expected[effect], abs=1e-6)
    free = one_weight(0.3)
    attached(free, **SEED_LIMITS, retention=0.1, **off).step()
    assert free.weight.item() == pytest.approx(0.3)


@pytest.mark.parametrize("quantize", [False, True])
def test_drift_alone_reaches_the_lowest_level(quantize: bool) -> None:
    """With rounding off or stochastic, and retention given as a time constant."""
    model = small_net()
    constraint = attached(
        model, mapping="differential", **SEED_LIMITS, quantize=quantize, rounding="stochastic",
        retain=True, retention_tau=20.0,
    )  # fmt: skip
    for _ in range(800):
        constraint.step()
    figures = constraint.diagnostics()
    assert figures["distinct_levels"] == 1
    levels, counts = constraint.histogram()
    assert counts[0] == counts.sum() == 2 * (12 * 7 + 7 * 3)
    assert levels[0] == pytest.approx(0.1)


def test_drift_by_nearest_rounding_stands_still_below_its_dead_zone() -> None:
    model = small_net()
    constraint = attached(
        model, mapping="differential", **SEED_LIMITS, quantize=True, rounding="nearest",
        retain=True, retention=1e-5,
    )  # fmt: skip
    before = [p.clone() for p in model.parameters()]
    for _ in range(100):
        constraint.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "accumulate"])
@pytest.mark.parametrize("mapping", ["direct", "reference", "differential"])
def test_stored_values_stay_on_the_grid_with_any_optimizer(rounding: str, mapping: str) -> None:
    model = small_net()
    constraint = attached(
        model, mapping=mapping, **SEED_LIMITS, quantize=True, rounding=rounding, bias="constrained",
        retain=True, retention=1e-3,
    )  # fmt: skip
    train_steps(model, Adam(model.parameters(), lr=0.05), constraint, 20)
    for p in model.parameters():
        assert p.min() >= 0.1
        assert p.max() <= 0.51
        level = (p.detach().double() - 0.1) / STEP
        torch.testing.assert_close(level, level.round(), atol=1e-4, rtol=0)


def test_straight_through_reads_levels_keeps_floats_and_learns_below_a_level() -> None:
    model = small_net()
    constraint = attached(
        model, mapping="differential", gain=2.0, **SEED_LIMITS, quantize=True,
        rounding="straight_through",
    )  # fmt: skip
    read, masters = (
        first_layer(model).weight,
        [p for n, p in model.named_parameters() if "original" in n],
    )
    level = read.detach().double() / (2 * STEP)
    torch.testing.assert_close(level, level.round(), atol=1e-3, rtol=0)
    start = [p.clone() for p in masters]
    train_steps(model, SGD(model.parameters(), lr=1e-5), constraint, 3)
    assert all(not torch.equal(a, b) for a, b in zip(start, masters, strict=True))
    assert constraint.diagnostics()["share_rounded_away"] == 0


def test_differential_pairs_keep_the_initial_weights_and_share_the_gradient() -> None:
    model, plain = small_net(), small_net()
    attached(model, mapping="differential", gain=2.0, **SEED_LIMITS)
    torch.testing.assert_close(first_layer(model).weight, first_layer(plain).weight)
    inputs, labels = torch.randn(8, 12), torch.randint(3, (8,))
    for net in (model, plain):
        F.cross_entropy(net(inputs), labels).backward()
    plus, minus = (p for n, p in model[1].named_parameters() if "original" in n)
    gradient = first_layer(plain).weight.grad
    assert gradient is not None
    torch.testing.assert_close(plus.grad, 2 * gradient)
    torch.testing.assert_close(minus.grad, -2 * gradient)


@pytest.mark.parametrize(("bias", "devices"), [("free", 105), ("constrained", 115)])
def test_bias_is_held_by_devices_only_where_asked(bias: str, devices: int) -> None:
    model = small_net()
    constraint = attached(model, W_min=-0.01, W_max=0.01, bias=bias)
    constraint.step()
    assert constraint.histogram()[1].sum() == devices
    assert bool((first_layer(model).bias.abs() <= 0.01).all()) == (bias == "constrained")


def test_convolutions_are_synapses_and_batch_norm_is_free() -> None:
    torch.manual_seed(0)
    model = CNN20k(num_classes=10, dropout=[0.0, 0.0])
    constraint = attached(model, mapping="differential", **SEED_LIMITS, quantize=True)
    optimizer = AsymmetricSGD(model.parameters(), lr_pos=0.1, lr_neg=0.1, momentum=0.9)
    F.cross_entropy(model(torch.randn(4, 1, 28, 28)), torch.arange(4)).backward()
    optimizer.step()
    constraint.step()
    kernels = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
    assert constraint.histogram()[1].sum() >= 2 * kernels
    norms = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(bool((w > 0.51).any()) for w in norms)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rounding": "stochastic"},
        {"rounding": "straight_through", "bound_variation": 0.0},
        {"quantize": False, "pulse_rounding": "accumulate"},
        {"curve": NOISY, "nonlinearity_ltp": 0.0, "nonlinearity_ltd": 0.0, "write_noise": 0.0},
        {"update": TikiTaka(every=2, columns=2, fast_rate=1.0, rate=0.5, gamma=0.1)},
        {
            "update": TikiTakaV2(columns=5, rate=0.5, threshold=1.0, flip_probability=0.3),
            "curve": NOISY,
            "nonlinearity_ltp": 0.0,
            "nonlinearity_ltd": 0.0,
            "write_noise": 0.0,
        },
        {"update": ThresholdedWrites(threshold=0.5, probability=0.7)},
    ],
    ids=[
        "every flaw",
        "stochastic",
        "straight_through",
        "accumulate",
        "step model",
        "tiki-taka",
        "choppers",
        "thresholded",
    ],
)
def test_saved_state_continues_bit_by_bit(changes: dict[str, Any]) -> None:
    """Uses every flaw that the changes allow, stopped between two samples of diagnostics."""
    settings = FLAWS | changes
    whole, first, second = small_net(), small_net(), small_net(seed=5)

    def start(model: nn.Module, seed: int) -> tuple[DeviceConstraint, AsymmetricSGD]:
        constraint = DeviceConstraint(**device_settings(**settings))
        constraint.attach(model, seed=seed)
        rates = {"lr_pos": 0.1, "lr_neg": 0.1, "momentum": 0.9}
        return constraint, AsymmetricSGD(model.parameters(), **rates)

    constraint, optimizer = start(whole, 3)
    train_steps(whole, optimizer, constraint, 7)
    train_steps(whole, optimizer, constraint, 9, seed=1)

    stopped = start(first, 3)
    train_steps(first, stopped[1], stopped[0], 7)
    file = io.BytesIO()
    torch.save([first.state_dict(), stopped[1].state_dict(), stopped[0].state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = start(second, 8)
    second.load_state_dict(saved[0])
    resumed[1].load_state_dict(saved[1])
    resumed[0].load_state_dict(saved[2])
    train_steps(second, resumed[1], resumed[0], 9, seed=1)

    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed[0].diagnostics() == constraint.diagnostics()


def test_diagnostics_count_what_nearest_rounding_deletes() -> None:
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data.copy_(torch.tensor([[0.1, 0.1 + 50 * STEP, 0.51, 0.1 + 20 * STEP]]))
    constraint = attached(
        layer, **SEED_LIMITS, quantize=True, rounding="nearest", retain=True, retention=1e-5
    )
    layer.weight.data.add_(torch.tensor([[2.0, 0.3, 0.3, -0.2]]) * STEP)
    constraint.step()
    figures = constraint.diagnostics()
    # of 4 updates, one moved two levels, two were rounded away, one at its bound is not counted
    assert figures["share_rounded_away"] == pytest.approx(2 / 3)
    assert figures["share_at_max"] == 0.25
    assert figures["share_at_min"] == 0
    assert figures["distinct_levels"] == 4
    mean = 0.1 + (2 + 50.3 + 99 + 19.8) / 4 * STEP
    assert figures["mean_drift"] == pytest.approx(-1e-5 * (mean - 0.1), rel=1e-3)
    assert constraint.diagnostics()["mean_drift"] == 0  # reset each epoch


def test_dead_zones_are_reported_with_their_numbers() -> None:
    model = small_net()
    constraint = attached(model, **(device_settings("published")))
    F.cross_entropy(model(torch.randn(8, 12)), torch.randint(3, (8,))).backward()
    gradients = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    lost = (gradients.abs() < STEP / 2 / 0.103).float().mean().item()
    _, updates, drift = constraint.warnings(0.103)  # the first is about the range
    assert f"|g| < D / (2 lr) = {STEP / 2 / 0.103:.3g}" in updates
    assert f"{lost:.2%}" in updates
    assert "retention >= 0.00505" in drift
    assert attached(small_net(), **device_settings("memristor")).warnings(0.1) == []


def test_moving_the_model_after_attaching_is_refused() -> None:
    model = small_net()
    constraint = attached(model)
    model.double()
    with pytest.raises(RuntimeError, match=r"before constraint\.attach"):
        constraint.step()


def test_a_model_with_conductances_can_be_copied() -> None:
    model = small_net()
    attached(model, mapping="differential", **SEED_LIMITS)
    inputs = torch.randn(2, 12)
    assert torch.equal(copy.deepcopy(model)(inputs), model(inputs))


def mnist_accuracy(option: str, mnist: Dataset, rate: float, momentum: float) -> float:
    """Test accuracy of 784-100-10 after 150 steps of 128 images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    constraint = DeviceConstraint(**device_settings(option))
    constraint.attach(model, seed=0)
    optimizer = AsymmetricSGD(
        model.parameters(), lr_pos=rate, lr_neg=1.03 * rate, momentum=momentum
    )
    for batch in torch.randperm(60_000)[: 150 * 128].split(128):
        loss = F.cross_entropy(model(mnist.train_images[batch] / 255), mnist.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        constraint.step()
    with torch.no_grad():
        predicted = model(mnist.test_images / 255).argmax(1)
    return (predicted == mnist.test_labels).float().mean().item()


def test_published_collapses_to_chance_and_memristor_learns(mnist: Dataset) -> None:
    """With positive weights and nearest rounding, every weight stays at its lower bound."""
    assert mnist_accuracy("published", mnist, rate=0.1, momentum=0.0) < 0.15
    assert mnist_accuracy("memristor", mnist, rate=0.08, momentum=0.9) > 0.85

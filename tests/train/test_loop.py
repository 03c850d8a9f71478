"""The training loop equals a naive one, is reproducible, and resumes where it stopped."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.experiment import build, optimization
from mnist_exp.train.callback import Callback
from mnist_exp.train.evaluate import evaluate
from mnist_exp.train.loop import LossNotFinite, train
from mnist_exp.train.state import TrainState
from mnist_exp.train.training import Training
from tests.conftest import Compose

CPU = torch.device("cpu")
MODELS = ("mlp100", "mlp300", "mlp", "cnn21k", "cnn20k")
SIZE = 150  # number of training images


class Setup:
    """The parts of a training on the first `SIZE` images, built from overrides."""

    def __init__(self, compose_config: Compose, mnist: Dataset, *overrides: str) -> None:
        self.config = compose_config(*overrides)
        build.prepare_torch(self.config)
        self.images = build.build_images(self.config, mnist, CPU)
        self.indices = torch.arange(SIZE)
        self.recipe = build.build_recipe(self.config, CPU)
        self.state = self.new_state()

    def new_state(self) -> TrainState:
        return build.build_state(self.config, 10, SIZE, CPU, seed=3)

    def train(self, state: TrainState, *callbacks: Callback) -> TrainState:
        train(state, Training(self.images, self.indices, self.recipe), lambda model: {}, callbacks)
        return state


def weights(state: TrainState) -> list[Tensor]:
    return [tensor.clone() for tensor in state.model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_loop_equals_the_obvious_one(compose_config: Compose, mnist: Dataset) -> None:
    setup = Setup(
        compose_config, mnist, "model=mlp", "training.epochs=2", "optimizer.fused=false",
        "scheduler=constant",
    )  # fmt: skip
    model = copy.deepcopy(setup.state.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(3)
    pixels = ((mnist.images[:SIZE] / 255) - 0.1307) / 0.3081
    losses = []
    for _ in range(2):
        loss_sum = 0.0
        for batch in torch.randperm(SIZE, generator=generator).split(64):
            loss = F.cross_entropy(model(pixels[batch]), mnist.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        losses.append(loss_sum / SIZE)
    setup.train(setup.state)
    assert [row["train_loss"] for row in setup.state.history] == pytest.approx(losses, rel=1e-4)
    for ours, expected in zip(setup.state.model.parameters(), model.parameters(), strict=True):
        # Adam amplifies rounding errors where a gradient is near 0
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_same_seed_gives_bitwise_the_same_weights(
    compose_config: Compose, mnist: Dataset, model: str
) -> None:
    setup = Setup(compose_config, mnist, f"model={model}", "training.epochs=1")
    first = weights(setup.train(setup.state))
    assert same(first, weights(setup.train(setup.new_state())))
    other = build.build_state(setup.config, 10, SIZE, CPU, seed=4)
    assert not same(first, weights(setup.train(other)))


class StopAfter(Callback):
    """Stop training after some batches, as a signal would."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batches", [1, 3, 4])
def test_restored_state_goes_on_bit_by_bit(
    compose_config: Compose, mnist: Dataset, model: str, batches: int
) -> None:
    overrides = (f"model={model}", "training.epochs=2", "training.batch_size=50")
    setup = Setup(compose_config, mnist, *overrides)
    expected = setup.train(setup.new_state())
    stopped = setup.new_state()
    with pytest.raises(KeyboardInterrupt):
        setup.train(stopped, StopAfter(batches))
    saved = copy.deepcopy(stopped.state_dict())
    torch.manual_seed(99)  # as in another process
    restored = setup.new_state()
    restored.load_state_dict(saved)
    setup.train(restored)
    assert same(weights(restored), weights(expected))
    for ours, theirs in zip(restored.history, expected.history, strict=True):
        assert ours["train_loss"] == theirs["train_loss"]
        assert ours["train_accuracy"] == theirs["train_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_overfit_preset_learns_100_images_by_heart(
    compose_config: Compose, mnist: Dataset, model: str
) -> None:
    config = compose_config(f"model={model}", "debug=overfit")
    images = build.build_images(config, mnist, CPU)
    (split,) = build.build_splits(config, mnist)
    assert len(split.train) == 100
    state = build.build_state(config, 10, 100, CPU, seed=0)
    train(state, Training(images, split.train, build.build_recipe(config, CPU)), lambda model: {})
    result = evaluate(state.model, images, split.train, batch_size=100, precision="fp32")
    assert result.accuracy == 1.0


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("constant", [0.1, 0.1, 0.1]),
        ("step", [0.1, 0.05, 0.025]),
        ("cosine", [0.1 * (1 + math.cos(math.pi * i / 9)) / 2 for i in range(9)]),
        ("onecycle", None),
    ],
)
def test_schedulers_step_once_a_batch_or_once_an_epoch(
    compose_config: Compose, mnist: Dataset, scheduler: str, expected: list[float] | None
) -> None:
    overrides = ["model=mlp100", f"scheduler={scheduler}", "training.batch_size=50"]
    overrides += ["training.epochs=3", "optimizer.lr=0.1"]
    if scheduler == "step":
        overrides.append("scheduler.step_size=1")
    setup = Setup(compose_config, mnist, *overrides)
    rates: list[float] = []

    class Watch(Callback):
        def on_batch_start(self, state: TrainState, indices: Tensor, images: Tensor) -> None:
            rates.append(state.optimizer.param_groups[0]["lr"])

    setup.train(setup.state, Watch())
    assert len(rates) == 9
    if scheduler == "onecycle":
        assert max(rates) == pytest.approx(0.1, rel=0.05)
        assert rates[0] == pytest.approx(0.1 / 25)
        assert setup.state.scheduler is not None
        assert setup.state.scheduler.total_steps == 9  # type: ignore[attr-defined]
    elif scheduler == "cosine":
        assert rates == pytest.approx(expected)
    else:
        assert rates[::3] == rates[2::3] == pytest.approx(expected)


@pytest.mark.parametrize("batches", [None, 2, 3])
def test_the_rate_of_an_epoch_is_that_of_its_last_step(
    compose_config: Compose, mnist: Dataset, batches: int | None
) -> None:
    """OneCycle changes the rate after every step, at the end to below 0; also after a resume."""
    overrides = (
        "model=mlp100",
        "scheduler=onecycle",
        "training.epochs=2",
        "training.batch_size=50",
    )
    setup = Setup(compose_config, mnist, *overrides, "optimizer.lr=0.1")
    rates: list[float] = []

    class Watch(Callback):
        def on_batch_start(self, state: TrainState, indices: Tensor, images: Tensor) -> None:
            rates.append(state.optimizer.param_groups[0]["lr"])

    setup.train(setup.state, Watch())
    if batches is not None:  # stop within the first epoch or after its last batch
        stopped = setup.new_state()
        with pytest.raises(KeyboardInterrupt):
            setup.train(stopped, StopAfter(batches))
        setup.state = setup.new_state()
        setup.state.load_state_dict(copy.deepcopy(stopped.state_dict()))
        setup.train(setup.state)
    assert [row["lr"] for row in setup.state.history] == [rates[2], rates[5]]
    assert setup.state.history[-1]["lr"] > 0


class Exploding(nn.Module):
    """Returns NaN logits on its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        factor = math.nan if self.calls == 3 else 1.0
        return self.weight * factor * images.mean((1, 2, 3))[:, None]


def exploding_state(setup: Setup) -> TrainState:
    model = Exploding()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return TrainState(model, optimizer, torch.Generator().manual_seed(0))


def test_a_loss_that_is_not_finite_stops_with_epoch_batch_and_rate(
    compose_config: Compose, mnist: Dataset
) -> None:
    setup = Setup(compose_config, mnist, "model=mlp100", "training.batch_size=50")
    with pytest.raises(LossNotFinite, match=r"nan in epoch 1, batch 3, at learning rate 0\.1"):
        setup.train(exploding_state(setup))


def test_skipping_leaves_the_batch_out_of_weights_and_metrics(
    compose_config: Compose, mnist: Dataset
) -> None:
    setup = Setup(
        compose_config, mnist, "model=mlp100", "training.batch_size=50", "training.epochs=1",
        "training.on_nan=skip",
    )  # fmt: skip
    state = setup.train(exploding_state(setup))
    assert state.history[0]["skipped_batches"] == 1
    assert math.isfinite(state.history[0]["train_loss"])
    assert state.model.weight.isfinite().all()  # type: ignore[operator]


def test_averaged_weights_are_evaluated_and_follow_the_decay(
    compose_config: Compose, mnist: Dataset
) -> None:
    overrides = ["model=mlp100", "training.averaging=0.5", "training.epochs=1"]
    overrides.append("training.averaging_warmup=false")
    setup = Setup(compose_config, mnist, *overrides, "training.batch_size=50")
    seen: list[list[Tensor]] = []

    class Watch(Callback):
        def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
            seen.append([parameter.detach().clone() for parameter in state.model.parameters()])

    setup.train(setup.state, Watch())
    averaged = setup.state.evaluated_model
    assert averaged is not setup.state.model
    # torch's AveragedModel starts from the weights after the first step
    expected = [0.25 * a + 0.25 * b + 0.5 * c for a, b, c in zip(*seen, strict=True)]
    for ours, theirs in zip(averaged.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp100", "cnn20k"])
def test_bf16_trains_float32_weights(compose_config: Compose, mnist: Dataset, model: str) -> None:
    overrides = (f"model={model}", "training.precision=bf16", "training.epochs=1")
    setup = Setup(compose_config, mnist, *overrides, "training.batch_size=50")
    state = setup.train(setup.state)
    assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}
    assert math.isfinite(state.history[0]["train_loss"])


def test_weight_decay_can_spare_biases_and_norms(compose_config: Compose) -> None:
    config = compose_config("experiment=cnn20k_published", "training.decay_norm_and_bias=false")
    model = build.build_model(config, 10)
    decayed, spared = optimization.build_optimizer(config, model).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert {p.ndim for p in decayed["params"]} == {4}
    assert {p.ndim for p in spared["params"]} == {1}


def test_evaluation_equals_the_definition(compose_config: Compose, mnist: Dataset) -> None:
    images = Images(mnist, device=CPU, mean=0.1307, std=0.3081)
    torch.manual_seed(0)
    model = build.build_model(compose_config("model=mlp100"), 10)
    indices = torch.arange(60_000, 60_257)
    result = evaluate(model, images, indices, batch_size=100, precision="fp32")
    logits = model(images.batch(indices)[0])
    labels = mnist.labels[indices]
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert torch.equal(result.predictions, logits.argmax(1))
    assert result.accuracy == (logits.argmax(1) == labels).double().mean().item()
    matrix: Any = torch.zeros(10, 10, dtype=torch.int64)
    for true, predicted in zip(labels, result.predictions, strict=True):
        matrix[true, predicted] += 1
    assert torch.equal(result.confusion_matrix, matrix)
    recalls = [(result.predictions[labels == k] == k).double().mean().item() for k in range(10)]
    assert result.per_class_accuracy == pytest.approx(recalls)
    assert model.training

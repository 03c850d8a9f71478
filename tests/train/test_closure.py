"""LBFGS and ReduceLROnPlateau in the loop equal the obvious loops of torch."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.train.closure import Reevaluated
from mnist_exp.train.loop import LossNotFinite, train
from mnist_exp.train.monitor import column_of, mode_of, monitored
from mnist_exp.train.state import TrainState
from mnist_exp.train.training import Training
from tests.conftest import Compose
from tests.train.test_loop import SIZE, Setup

LBFGS = ("optimizer=lbfgs", "scheduler=constant", "training.epochs=2", "training.batch_size=50")


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_lbfgs_equals_the_obvious_loop_bit_by_bit(
    compose_config: Compose, mnist: Dataset, dropout: float
) -> None:
    """A tanh network, which autograd trains; dropout drops the same in all evaluations."""
    setup = Setup(
        compose_config, mnist, "model=mlp", "model.activation=tanh", f"model.dropout={dropout}",
        "model.hidden_sizes=[32]", *LBFGS,
    )  # fmt: skip
    model = copy.deepcopy(setup.state.model)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=4, history_size=10, line_search_fn="strong_wolfe"
    )
    generator = torch.Generator().manual_seed(3)
    random = torch.get_rng_state()
    setup.train(setup.state)
    torch.set_rng_state(random)
    losses = []
    for _ in range(2):
        loss_sum = 0.0
        for batch in torch.randperm(SIZE, generator=generator).split(50):
            inputs, labels = setup.images.batch(batch)
            before = torch.get_rng_state()
            evaluated: list[float] = []

            def closure(
                inputs: Tensor = inputs,
                labels: Tensor = labels,
                before: Tensor = before,
                evaluated: list[float] = evaluated,
            ) -> Tensor:
                torch.set_rng_state(before)
                model.zero_grad()
                loss = F.cross_entropy(model(inputs), labels)
                loss.backward()
                evaluated.append(loss.item())
                return loss

            optimizer.step(closure)
            assert len(evaluated) > 1
            loss_sum += evaluated[0] * len(batch)
        losses.append(loss_sum / SIZE)
    assert [row["train_loss"] for row in setup.state.history] == losses
    assert losses[1] < losses[0]
    for ours, expected in zip(setup.state.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp100", "cnn21k", "cnn20k"])
def test_lbfgs_learns_on_every_way_of_backpropagation(
    compose_config: Compose, mnist: Dataset, model: str
) -> None:
    setup = Setup(
        compose_config, mnist, f"model={model}", *LBFGS, "training.decay_norm_and_bias=true"
    )
    setup.train(setup.state)
    first, second = (row["train_loss"] for row in setup.state.history)
    assert second < first
    counts = [b for name, b in setup.state.model.named_buffers() if name.endswith("tracked")]
    assert all(count == 6 for count in counts)  # each batch once


class Cliff(nn.Module):
    """Logits that become NaN once its weight has moved."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))
        self.start = self.weight.detach().clone()

    def forward(self, images: Tensor) -> Tensor:
        factor = 1.0 if torch.equal(self.weight, self.start) else math.nan
        return self.weight * factor * (1 + images.mean((1, 2, 3))[:, None]) * torch.arange(10)


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_step_to_weights_that_are_not_finite_is_undone(
    compose_config: Compose, mnist: Dataset, on_nan: str
) -> None:
    setup = Setup(
        compose_config, mnist, "model=mlp100", "training.batch_size=50", "training.epochs=1",
        f"training.on_nan={on_nan}",
    )  # fmt: skip
    model = Cliff()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    state = TrainState(model, optimizer, torch.Generator().manual_seed(0))
    if on_nan == "stop":
        with pytest.raises(LossNotFinite, match="nan in epoch 1, batch 1"):
            setup.train(state)
    else:
        setup.train(state)
        assert state.history[0]["skipped_batches"] == 3
    assert torch.equal(model.weight, model.start)
    assert not optimizer.state


def test_the_first_evaluation_is_not_repeated() -> None:
    model, calls = nn.Linear(1, 1), []
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)

    def backpropagate(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(inputs)
        model.zero_grad()
        loss = (model(inputs) - labels).square().mean()
        loss.backward()
        return loss.detach(), labels

    repeated = Reevaluated(backpropagate, model, optimizer)
    loss, _ = repeated(torch.ones(1, 1), torch.zeros(1, 1))
    assert repeated.step(loss.item()) == loss.item()
    assert len(calls) == 1


def test_plateau_falls_as_in_the_obvious_loop(compose_config: Compose, mnist: Dataset) -> None:
    values = [1.0, 0.9, 0.95, 0.91, 0.5, 0.6, 0.7, 0.8]
    setup = Setup(
        compose_config, mnist, "model=mlp100", "scheduler=plateau", "scheduler.patience=1",
        "scheduler.factor=0.5", "scheduler.cooldown=1", "scheduler.monitor=validation.loss",
        f"training.epochs={len(values)}", "optimizer.lr=0.1",
    )  # fmt: skip
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = ReduceLROnPlateau(optimizer, "min", 0.5, patience=1, cooldown=1)
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    given = iter(values)
    training = Training(setup.images, setup.indices, setup.recipe)
    train(setup.state, training, lambda model: {"validation_loss": next(given)})
    assert [row["lr"] for row in setup.state.history] == expected
    assert setup.state.scheduler is not None
    assert setup.state.scheduler.state_dict() == scheduler.state_dict()
    assert expected[-1] < expected[0]


def minimized(logits: Tensor, labels: Tensor) -> float:
    return 0.0


minimized.minimize = True  # type: ignore[attr-defined]
METRICS: dict[str, Any] = {"mine": minimized, "f1": lambda logits, labels: 0.0}


@pytest.mark.parametrize(
    ("name", "column", "mode"),
    [
        ("validation.loss", "validation_loss", "min"),
        ("validation_accuracy", "validation_accuracy", "max"),
        ("train_loss", "train_loss", "min"),
        ("validation.f1.3", "validation_f1.3", "max"),
        ("validation_mine", "validation_mine", "min"),
        ("validation.mine.part", "validation_mine.part", "min"),
    ],
)
def test_names_and_directions_of_monitored_values(name: str, column: str, mode: str) -> None:
    assert column_of(name) == column
    assert mode_of(column, METRICS) == mode


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (None, "not")])
def test_a_value_that_is_no_number_is_refused(value: float | None, shown: str) -> None:
    with pytest.raises(UserError, match=f"monitor=validation_f1: is {shown}.* in epoch 2"):
        monitored({"epoch": 2, "validation_f1": value}, "validation_f1")


def test_a_missing_value_is_refused_with_those_there_are() -> None:
    row = {"epoch": 1, "train_loss": 1.0, "validation_f1.3": 0.5, "seconds": 1.0}
    with pytest.raises(UserError, match=r"it has train_loss, validation_f1\.3\.$"):
        monitored(row, "validation_f1")

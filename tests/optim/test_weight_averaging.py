"""Averaged weights: values for known sequences, and useful averages after a short run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import open_dict
from torch import Tensor, nn

from mnist_exp import schema
from mnist_exp.data import Dataset
from mnist_exp.experiment import build
from mnist_exp.optim.weight_averaging import averaged_model, growing_decay
from mnist_exp.run.saved_config import bring_up_to_date, hash_config, training_config
from mnist_exp.train.evaluate import evaluate
from mnist_exp.train.loop import Training, train
from tests.conftest import Compose

CPU = torch.device("cpu")


class Numbers(nn.Module):
    """A parameter, statistics such as BatchNorm's, and a count."""

    statistics: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("statistics", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))

    def become(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.statistics.fill_(value)
        self.count += 1


def average_of(values: list[float], decay: float, warmup: bool = True) -> Numbers:
    model = Numbers()
    averaged = averaged_model(model, decay, warmup)
    for value in values:
        model.become(value)
        averaged.update_parameters(model)
    return averaged.module  # type: ignore[return-value]


@given(st.floats(-100, 100, width=32), st.integers(1, 60), st.floats(0.01, 0.999))
def test_the_average_of_a_constant_is_the_constant(value: float, steps: int, decay: float) -> None:
    model = average_of([value] * steps, decay)
    torch.testing.assert_close(model.weight, torch.full_like(model.weight, value))
    torch.testing.assert_close(model.statistics, torch.full_like(model.statistics, value))


@given(st.integers(2, 200), st.floats(0.5, 0.999))
def test_the_average_of_a_line_is_a_tenth_behind_or_as_far_as_the_decay_says(
    steps: int, decay: float
) -> None:
    behind = steps - average_of([float(step) for step in range(1, steps + 1)], decay).weight[0]
    assert 0 < behind.item() <= min(0.1 * steps + 1, decay / (1 - decay) + 1e-6)


def test_weights_and_statistics_follow_the_recursion() -> None:
    values = [float(value) for value in torch.randn(50, generator=torch.Generator().manual_seed(0))]
    expected = values[0]
    for n, value in enumerate(values[1:], start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    model = average_of(values, 0.8)
    torch.testing.assert_close(model.weight[0].item(), expected)
    torch.testing.assert_close(model.statistics[0].item(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_long_run_has_the_average_of_the_plain_decay() -> None:
    assert growing_decay(0.99, 889) < 0.99 == growing_decay(0.99, 890)
    values = [float(value) for value in torch.randn(2900, generator=torch.Generator())]
    plain, warm = (average_of(values, 0.99, warmup).weight for warmup in (False, True))
    torch.testing.assert_close(warm, plain, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp100", "cnn20k"])
def test_a_short_run_reports_about_what_its_last_weights_would(
    compose_config: Compose, mnist: Dataset, model: str
) -> None:
    config = compose_config(
        f"model={model}", "training.averaging=0.99", "training.epochs=2", "cv=none",
        "data.subset=1000", "training.batch_size=32", "augmentation=none",
    )  # fmt: skip
    images = build.build_images(config, mnist, CPU)
    (split,) = build.build_splits(config, mnist)
    state = build.build_state(config, 10, 1000, CPU, seed=0)
    train(state, Training(images, split.train, build.build_recipe(config, CPU)), lambda model: {})
    average, last = (
        evaluate(m, images, split.test[:2000], batch_size=1000, precision="fp32").accuracy
        for m in (state.evaluated_model, state.model)
    )
    assert average > last - 0.05 > 0.4


def test_configurations_of_before_the_warm_up_train_as_they_did(
    compose_config: Compose, mnist: Dataset
) -> None:
    config = compose_config("model=mlp100", "training.averaging=0.9", "training.epochs=1")
    older = config.copy()
    with open_dict(older):
        del older.training.averaging_warmup
    bring_up_to_date(older)
    schema.check(older)
    config.training.averaging_warmup = False
    images = build.build_images(config, mnist, CPU)
    averages = []
    for each in (config, older):
        state = build.build_state(each, 10, 300, CPU, seed=0)
        recipe = build.build_recipe(each, CPU)
        train(state, Training(images, torch.arange(300), recipe), lambda model: {})
        averages.append(list(state.evaluated_model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*averages, strict=True))


def test_without_averaging_a_run_is_the_one_it_was_before_the_warm_up(
    compose_config: Compose,
) -> None:
    config = compose_config("model=mlp100")
    older = config.copy()
    with open_dict(older):
        del older.training.averaging_warmup
    assert hash_config(training_config(older)) == hash_config(training_config(config))

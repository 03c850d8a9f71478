"""Schedules are simulated before training: which are refused, and no side effects."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from mnist_exp.errors import UserError
from mnist_exp.experiment import build, optimization
from mnist_exp.experiment.run import run_experiment
from mnist_exp.optim import AsymmetricSGD, schedule
from mnist_exp.optim.schedule import check_schedule
from tests.conftest import Compose

NAMES = ("optimizer: SGD", "scheduler: mine")


def sgd(lr: float = 0.1, momentum: float = 0.9) -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)


def check(
    build_scheduler: Callable[[Optimizer], LRScheduler | None],
    steps: int = 9,
    optimizer: Optimizer | None = None,
) -> bool:
    return check_schedule(optimizer or sgd(), build_scheduler, steps, NAMES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["scheduler=step", "scheduler.gamma=-0.5", "scheduler.step_size=2"],
            r"scheduler: .*StepLR with interval=epoch, step_size=2, gamma=-0.5: "
            r"a learning rate of -0.05; .* at step 3 of 4",
        ),
        (["scheduler=step", "scheduler.gamma=nan", "scheduler.step_size=2"], "rate of nan.*step 3"),
        (["scheduler=step", "scheduler.gamma=1e200", "scheduler.step_size=1"], "inf.*step 3"),
        (["scheduler=cosine", "scheduler.eta_min=-0.1"], "a learning rate of -"),
        (["scheduler=onecycle", "scheduler.max_lr=0"], "a learning rate of -0|never exceeds 0"),
        (["scheduler=onecycle", "scheduler.max_lr=inf"], "a learning rate of (inf|nan)"),
        (
            ["scheduler=onecycle", "optimizer.momentum=0.9", "scheduler.max_momentum=1.5"],
            r"a momentum of 1\.\d+; it must be at least 0 and below 1, at step 1 of 32",
        ),
        (["scheduler=onecycle", "training.epochs=1", "data.subset=50"], "never exceeds 4e-07"),
        (["optimizer.momentum=1.5"], "optimizer: torch.optim.SGD with .*: a momentum of 1.5"),
        (["optimizer.lr=0"], "optimizer: .*: at a learning rate of 0 nothing is trained"),
        (
            ["optimizer=asymmetric_sgd", "scheduler=step", "scheduler.gamma=-1"],
            "a learning rate of -0.1; ",
        ),
        (
            ["optimizer.betas=[0.9,0.999]", "optimizer=adam", "scheduler=onecycle",
             "scheduler.base_momentum=-0.5"],
            "a momentum of -",
        ),
    ],
)  # fmt: skip
def test_what_climbs_the_loss_or_trains_nothing_is_refused_with_the_first_step(
    tmp_path: Path, compose_config: Compose, overrides: list[str], message: str
) -> None:
    small = ["model=mlp100", "cv=none", "training.epochs=4", "data.subset=1000"]
    config = compose_config(*small, *overrides)
    with pytest.raises(UserError, match=message):
        run_experiment(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@given(st.integers(2, 40), st.floats(0.05, 0.9), st.booleans(), st.floats(1, 1e20))
def test_one_cycle_passes_whatever_its_shape(
    steps: int, rising: float, linear: bool, final: float
) -> None:
    def one_cycle(optimizer: Optimizer) -> LRScheduler:
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.1, total_steps=steps, pct_start=rising, final_div_factor=final,
            anneal_strategy="linear" if linear else "cos",
        )  # fmt: skip

    assert check(one_cycle, steps)


@given(st.integers(1, 30), st.integers(1, 60))
def test_cosine_passes_also_beyond_its_end(half_period: int, steps: int) -> None:
    check(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, half_period), steps)


def test_reports_whether_the_rate_changes_within_the_run() -> None:
    assert not check(lambda optimizer: None)
    assert not check(lambda optimizer: lr_scheduler.StepLR(optimizer, 9))
    assert check(lambda optimizer: lr_scheduler.StepLR(optimizer, 8))


def test_the_rate_after_the_last_step_is_not_checked() -> None:
    check(lambda optimizer: lr_scheduler.StepLR(optimizer, 9, gamma=-1.0))


def test_a_scheduler_that_waits_for_metrics_is_left_out() -> None:
    assert check(lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5))


def test_a_scheduler_that_fails_on_the_way_is_refused_with_the_step() -> None:
    with pytest.raises(UserError, match="scheduler: mine: fails at step 5 of 9"):
        check(lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4))


def test_the_rate_of_weights_that_fall_must_be_finite_too() -> None:
    parameters = [torch.zeros(1, requires_grad=True)]
    optimizer = AsymmetricSGD(parameters, lr_pos=1e-200, lr_neg=1e100, momentum=0.0)
    with pytest.raises(UserError, match="scheduler: mine: a learning rate of inf"):
        check(lambda o: lr_scheduler.StepLR(o, 1, gamma=1e250), optimizer=optimizer)


def test_only_the_beginning_of_a_very_long_run_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MOST_STEPS", 5)
    assert not check(lambda optimizer: lr_scheduler.StepLR(optimizer, 5, gamma=-1.0), 10**9)


def test_neither_weights_nor_random_numbers_are_touched(compose_config: Compose) -> None:
    config = compose_config("model=cnn20k")
    state = build.build_state(config, 10, 1000, torch.device("cpu"), seed=0)
    before = copy.deepcopy(state.state_dict())
    assert optimization.check_rates(config, state.model, 1000)
    now = state.state_dict()
    assert torch.equal(now["torch_random"], before["torch_random"])
    assert now["optimizer"] == before["optimizer"]
    assert now["scheduler"] == before["scheduler"]
    for name, value in before["model"].items():
        assert torch.equal(now["model"][name], value)


def test_a_run_that_was_begun_goes_on_with_a_warning(
    tmp_path: Path,
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A version without the check may have started it."""
    config = compose_config(
        "model=mlp100", "cv=none", "data.subset=100", "cv.test=100",
        "plots.enabled=false", "report.enabled=false",
        "scheduler=step", "scheduler.step_size=1", "scheduler.gamma=-0.1", "training.epochs=2",
    )  # fmt: skip
    with monkeypatch.context() as without:
        without.setattr(optimization, "check_rates", lambda *arguments: True)
        run_experiment(config, tmp_path)
    assert run_experiment(config, tmp_path)["status"] == "completed"
    assert "warning: scheduler: " in capsys.readouterr().err

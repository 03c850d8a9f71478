"""Booleans for numbers, and vice versa, are refused by argument name; other values pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.schema.arguments import wrong_kinds
from tests.conftest import Compose


def part(  # type: ignore[no-untyped-def]
    rate: float,
    count: int | None,
    switch: bool,
    name: str,
    sizes: Sequence[int],
    either: int | str,
    unknown: Callable[[float], float] | float,
    number=0.5,
    toggle=False,
    anything=None,
    **others: float,
) -> None:
    """Accept one argument of each kind."""


@pytest.mark.parametrize(
    ("arguments", "mistakes"),
    [
        ({"rate": True}, ["rate=true: allowed is a number"]),
        ({"rate": np.True_}, ["rate=true: allowed is a number"]),
        ({"rate": "fast"}, ["rate=fast: allowed is a number"]),
        ({"count": False}, ["count=false: allowed is a whole number"]),
        ({"count": 2.5}, ["count=2.5: allowed is a whole number"]),
        ({"switch": 1}, ["switch=1: allowed is true or false"]),
        ({"switch": 0.0}, ["switch=0.0: allowed is true or false"]),
        ({"name": 3}, ["name=3: allowed is text"]),
        ({"sizes": [1, True]}, ["sizes=[1, true]: allowed is a whole number"]),
        ({"either": True}, ["either=true: allowed is a whole number or text"]),
        ({"number": True, "toggle": 1}, ["number=true: ", "toggle=1: "]),
    ],
)
def test_the_wrong_kind_is_named(arguments: dict[str, Any], mistakes: list[str]) -> None:
    found = list(wrong_kinds(part, arguments))
    assert len(found) == len(mistakes)
    assert all(ours.startswith(expected) for ours, expected in zip(found, mistakes, strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"rate": 1, "count": None, "switch": np.True_, "name": "a", "sizes": (1, np.int64(2))},
        {"rate": np.float32(0.5), "count": 2.0, "either": "all", "unknown": True, "sizes": []},
        {"rate": float("inf"), "number": 2, "toggle": True, "anything": True},
        {"rate": torch.tensor(0.1), "missing": True},
    ],
)
def test_everything_else_passes(arguments: dict[str, Any]) -> None:
    assert list(wrong_kinds(part, arguments)) == []


def test_targets_without_annotations_are_judged_by_their_defaults() -> None:
    assert list(wrong_kinds(KFold, {"n_splits": True, "shuffle": 1, "random_state": 1})) == [
        "n_splits=true: allowed is a number",
        "shuffle=1: allowed is true or false",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "model.dropout=true",
        "model.hidden_sizes=[true]",
        "optimizer.weight_decay=true",
        "optimizer.betas=[true,0.9]",
        "optimizer.fused=1",
        "scheduler.pct_start=true",
        "scheduler.cycle_momentum=0",
        "cv.n_splits=true",
        "constraint.gain=true",
        "constraint.clip=1",
        "constraint.levels=2.5",
        "gradients.top_k=true",
        "gradients.epochs=[true]",
        "gradients.cosine=1",
        "augmentation.degrees=true",
    ],
)
def test_every_part_refuses_truth_values_as_numbers_and_numbers_as_truth_values(
    compose_config: Compose, override: str
) -> None:
    config = compose_config(
        "model=mlp", "scheduler=onecycle", "cv=kfold", "constraint=clip", "gradients=epoch",
        "augmentation=light", "optimizer=adam", override,
    )  # fmt: skip
    key = override.partition("=")[0]
    group = key.partition(".")[0]

    def build_part() -> None:
        if group in ("model", "optimizer", "scheduler"):
            build.build_state(config, 10, 1000, torch.device("cpu"), seed=0)
        call_target(config, group)

    with pytest.raises(UserError, match=rf"^{key}=.*: allowed is"):
        build_part()


@pytest.mark.parametrize("override", ["optimizer.lr=true", "training.epochs=true", "seed=false"])
def test_fixed_keys_refuse_truth_values_as_numbers(compose_config: Compose, override: str) -> None:
    with pytest.raises(UserError, match=override):
        schema.check(compose_config(override))

"""Every configuration key is declared, and no value of one ends in a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.experiment import build, optimization
from mnist_exp.experiment.functions import build_loss, build_metrics
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.schema.keys import rules_for
from mnist_exp.train.metrics import measure
from tests.conftest import Compose

NUMBERS = (-1, 0, 1e308, float("nan"), float("inf"), 2**63)
HOSTILE: tuple[Any, ...] = (None, True, *NUMBERS, "abc", [], {})
# Options that together cover every key and target; for data, those that need no files.
OPTIONS = (
    *("data=mnist", "data=kmnist", "augmentation=light", "tracker=tensorboard"),
    *("model=mlp", "model=cnn20k", "model=cnn21k"),
    *(f"optimizer={name}" for name in ("adam", "adamw", "sgd", "asymmetric_sgd", "muon")),
    *(f"scheduler={name}" for name in ("constant", "cosine", "onecycle", "step")),
    *("cv=holdout", "cv=kfold", "cv=stratified_kfold", "cv=repeated_stratified_kfold"),
    *("loss=cross_entropy", "loss=focal", "loss=mse", "metrics=[top2,ece,nll,f1]"),
    *("constraint=clip", "gradients=epoch", "gradients=none", "runtime=cpu"),
)
GROUPS = {option.partition("=")[0] for option in OPTIONS}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@contextmanager
def changed(config: DictConfig, key: str, value: Any) -> Iterator[None]:
    before = OmegaConf.select(config, key)
    OmegaConf.update(config, key, value, merge=False)
    try:
        yield
    finally:
        OmegaConf.update(config, key, before, merge=False)


def build_part(config: DictConfig, group: str) -> None:
    """Build the part of ``group`` as a run does; skip data sets and trackers, which write files."""
    if group == "model":
        build.build_model(config, num_classes=10)
    elif group == "optimizer":
        optimization.build_optimizer(config, torch.nn.Linear(2, 2))
    elif group == "scheduler":
        optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)
        optimization.build_scheduler(config, optimizer, batches_per_epoch=10)
    elif group == "loss":
        build_loss(config, 10, torch.device("cpu"))
    elif group == "metrics":
        measure(build_metrics(config), torch.randn(50, 10), torch.arange(50) % 10)
    elif group in ("cv", "constraint", "augmentation", "gradients"):
        call_target(config, group)


@pytest.mark.slow
@pytest.mark.parametrize("option", [*OPTIONS, ""])
def test_a_hostile_value_is_accepted_or_refused_by_its_key(
    compose_config: Compose, option: str
) -> None:
    config = compose_config(*filter(None, [option]))
    values: Any = OmegaConf.to_container(config)
    group = option.partition("=")[0]
    own = {group: values[group]} if group else {k: v for k, v in values.items() if k not in GROUPS}
    keys = list(leaves(own))
    assert set(keys) <= set(rules_for(values))
    OmegaConf.set_struct(config, False)
    for key in keys:
        for hostile in HOSTILE:
            with changed(config, key, hostile):
                try:
                    schema.check(config)
                except UserError as error:
                    assert str(error).startswith(f"{key}=")  # noqa: PT017
                    continue
                with suppress(UserError):
                    build_part(config, group)


def test_a_group_that_is_no_option_is_refused(compose_config: Compose) -> None:
    config = compose_config()
    OmegaConf.set_struct(config, False)
    for group in sorted(GROUPS - {"runtime"}):
        for hostile in HOSTILE:
            if group in ("tracker", "metrics") and hostile == {}:  # none
                continue
            with (
                changed(config, group, hostile),
                pytest.raises(
                    UserError, match=rf"^{group}(\._target_: is missing|=.*: allowed is)"
                ),
            ):
                schema.check(config)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["true", "1.0", "-1", "4294967296"])
@pytest.mark.parametrize("splitter", ["StratifiedKFold", "ShuffleSplit"])
def test_a_seed_of_the_splitter_is_a_whole_number(
    compose_config: Compose, splitter: str, value: str
) -> None:
    target = f"cv._target_=sklearn.model_selection.{splitter}"
    config = compose_config("cv=stratified_kfold", target, f"cv.random_state={value}")
    with pytest.raises(UserError, match=rf"cv\.random_state={value}: allowed is null or a whole"):
        schema.check(config)


def test_all_mistakes_are_listed_those_of_parts_too(compose_config: Compose) -> None:
    overrides = ["constraint=clip", "constraint.levels=1", "constraint.clip=off", "seed=-1"]
    with pytest.raises(UserError) as error:
        schema.check(compose_config(*overrides))
    assert str(error.value).splitlines() == [
        "seed=-1: allowed is a whole number of at least 0",
        "constraint.clip=off: allowed is true or false",
        "constraint.levels=1: allowed is a whole number of at least 2",
    ]


def test_words_for_truth_in_keys_that_are_not_declared_are_refused(compose_config: Compose) -> None:
    with pytest.raises(UserError, match="own=yes: is text here; write true or false"):
        schema.check(compose_config("+own=yes"))

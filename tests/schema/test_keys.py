"""Every configuration key is declared, and no value of one ends in a traceback."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.experiment import build, optimization
from mnist_exp.experiment.functions import build_loss, build_metrics
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.schema.configuration import mistakes_in, unread_keys
from mnist_exp.schema.keys import RULES, rules_for
from mnist_exp.schema.parts import PARTS
from mnist_exp.train.metrics import measure
from tests.conftest import Compose

NUMBERS = (-1, 0, 1e308, float("nan"), float("inf"), 2**63)
HOSTILE: tuple[Any, ...] = (None, True, *NUMBERS, "abc", [], {})
GROUPS = {path.parent.name for path in config_directory().glob("*/*.yaml")}
PRESETS = {"experiment", "debug"}


def compositions() -> list[tuple[str, ...]]:
    """Return overrides that choose every option once.

    What sets keys of its own group alone is chosen with options of the other groups: composing is
    slow.
    """
    alone: dict[str, list[str]] = {}
    everywhere = []
    for path in sorted(config_directory().glob("*/*.yaml")):
        text = f"{path.parent.name}={path.stem}"
        if path.stem.startswith("_") and not path.stem.startswith("_recipe"):
            continue
        if "@package _global_" in path.read_text(encoding="utf-8"):
            everywhere.append((text,))
        else:
            alone.setdefault(path.parent.name, []).append(text)
    together = itertools.zip_longest(*alone.values())
    return [(), *(tuple(filter(None, row)) for row in together), *everywhere]


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def configurations(
    compose_config: Compose,
) -> Iterator[tuple[tuple[str, ...], dict[str, Any], list[str]]]:
    """Yield all options with their configuration and the keys none before had, as declared."""
    seen: set[tuple[str, str]] = set()
    for options in compositions():
        values: Any = OmegaConf.to_container(compose_config(*options))
        if "data=idx" in options:
            values["data"]["root"] = "."
        new = []
        for key in leaves(values):
            place = values
            for group in key.split(".")[:-1]:
                place = place[group]
            if (key, str(place.get("_target_"))) not in seen:
                seen.add((key, str(place.get("_target_"))))
                new.append(key)
        yield options, values, new


def with_value(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return the values with one changed; the groups without it are shared, not copied."""
    name, _, inner = key.partition(".")
    return {**values, name: with_value(values[name], inner, value) if inner else value}


def build_part(config: DictConfig, key: str) -> None:
    """Build the part of ``key`` as a run does; skip data sets and trackers, which write files."""
    group = key.partition(".")[0]
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
    elif group == "callbacks":
        call_target(config, key.rpartition(".")[0])
    elif group in ("cv", "constraint", "augmentation", "gradients"):
        call_target(config, group)


@pytest.mark.slow
def test_every_key_of_every_option_has_a_rule_and_is_read(compose_config: Compose) -> None:
    for options, values, _ in configurations(compose_config):
        assert [*mistakes_in(values)] == [], options
        assert [*unread_keys(values)] == [], options
        assert set(leaves(values)) - set(rules_for(values)) == set(), options


@pytest.mark.slow
def test_every_rule_is_of_a_key_of_some_option(compose_config: Compose) -> None:
    keys: set[str] = set()
    for _, values, _ in configurations(compose_config):
        keys |= {*leaves(values), *values}
    assert {key for key in RULES if key not in keys} == set()


@pytest.mark.slow
def test_a_hostile_value_of_any_key_is_accepted_or_refused_by_its_key(
    compose_config: Compose,
) -> None:
    tried = 0
    for _, values, keys in configurations(compose_config):
        for key in keys:
            rule = rules_for(values)[key]
            for hostile in HOSTILE:
                tried += 1
                changed = with_value(values, key, hostile)
                told = [*mistakes_in(changed)]
                if not rule.accepts(hostile):
                    shown = schema.rule.shown(hostile)
                    assert told[0] == f"{key}={shown}: allowed is {rule.allowed}"
                    continue
                assert told == []
                with suppress(UserError):
                    build_part(OmegaConf.create(changed), key)
    assert tried > 1800


def test_a_group_that_is_no_option_is_refused(compose_config: Compose) -> None:
    values: Any = OmegaConf.to_container(compose_config())
    for group in sorted(GROUPS - PRESETS):
        for hostile in HOSTILE:
            if group in ("tracker", "metrics", "callbacks") and hostile == {}:  # none
                continue
            told = [*mistakes_in(with_value(values, group, hostile))]
            assert told, (group, hostile)
            assert all(line.startswith((f"{group}.", f"{group}=")) for line in told)
            assert all("allowed is" in line or "choose an option" in line for line in told)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["+training.epoch=3"], "training.epoch=3: nothing reads this key"),
        (["+runtime.thread=3"], "runtime.thread=3: nothing reads this key"),
        (["+mine=3"], "mine=3: nothing reads this key"),
        (["+mine.a=3"], r"mine=\{'a': 3\}: nothing reads this key"),
        (["optimizer=muon", "+optimizer.nesterov=true"], "optimizer.nesterov=true: nothing reads"),
        (["cv=holdout", "+cv.random_state=1"], "cv.random_state=1: nothing reads this key"),
        (["metrics=top2", "+metrics.top2.n=1"], "metrics.top2.n=1: nothing reads this key"),
        (["+constraint.levels=16"], "constraint._target_=null: without a target nothing reads l"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(
    compose_config: Compose, overrides: list[str], told: str
) -> None:
    config = compose_config(*overrides)
    with pytest.raises(UserError, match=rf"^{told}"):
        schema.check(config)
    schema.check(config, unread=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ["+extra.width=3", "+extra.inner={a: [1,b]}"],
        ["optimizer=adam", "+optimizer.amsgrad=true"],  # an argument of torch's
        ["loss._target_=my.loss", "+loss.scale=3"],
        ["+metrics.mine={_target_: my.metric, k: 3}"],
        ["model._target_=torch.nn.Sequential", "+model._args_=[{_target_: torch.nn.Flatten}]"],
    ],
)
def test_values_of_the_users_own_pass(compose_config: Compose, overrides: list[str]) -> None:
    schema.check(compose_config(*overrides))


def test_the_arguments_of_our_targets_are_declared_completely() -> None:
    """Else a setting that its target takes would be refused as one that nothing reads."""
    from tests.test_defaults import BASE, settings_of

    for target, base in BASE.items():
        own = schema.parts.OWN_KEYS.get(base.partition("/")[0], set()) | {"_target_", "defaults"}
        assert settings_of(base).keys() - own <= PARTS[target].keys(), target


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
        "constraint.levels=1: allowed is a whole number from 2 to 16777216",
    ]


def test_words_for_truth_in_keys_that_are_not_declared_are_refused(compose_config: Compose) -> None:
    with pytest.raises(UserError, match="own=yes: is text here; write true or false"):
        schema.check(compose_config("+own=yes"))

"""The jobs of a grid: all combinations, but for what is zipped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mnist_exp import schema
from mnist_exp.app.sweep.grid import ZIP, grid
from mnist_exp.errors import UserError


def parsed(*texts: str) -> list[Override]:
    return OverridesParser.create().parse_overrides([*texts])


def values(overrides: Sequence[str], *zipped: list[str]) -> list[str]:
    """Return the values of each job, joined."""
    jobs = grid(parsed(*overrides), zipped)
    return ["".join(text.partition("=")[2] for text in job) for job in jobs]


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1,2", "model=mlp", "optimizer.lr=0.1,1e-3,1", "+extra.a=[1,2],{a:b}", "~tracker"],
        ["seed=range(3)", "seed=5,6", "model='a b','c,d'"],
        ["seed=1,2", "seed=7", "data=choice(a,b)"],
        ["seed=7"],
        [],
        ["seed=range(0)", "model=a,b"],
    ],
)
def test_without_zip_the_jobs_are_those_of_hydra(overrides: list[str]) -> None:
    (hydra,) = BasicSweeper.split_arguments(parsed(*overrides), None)
    assert grid(parsed(*overrides)) == hydra


def test_zipped_settings_advance_together() -> None:
    two = ["a=1,2", "b=3,4", "c=5,6"]
    assert values(two, ["a", "c"]) == ["153", "154", "263", "264"]
    assert values(two, ["c", "a", "b"]) == ["513", "624"]
    assert values([*two, "d=7,8"], ["a", "b"], ["c", "d"]) == ["1357", "1368", "2457", "2468"]
    assert values(["+a=1,2", "b=range(3,5)", "sweep.zip=[a,b]"], ["a", "b"]) == ["13", "24"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["a=1,2", "b=1"], "b is not swept; swept are a. Give it several values, b=A,B"),
        (["a=1,2", "b=1,2", "b=3"], "b is not swept"),
        ([], "a is not swept; nothing is swept"),
        (["a=1,2", "b=1,2,3"], "need equally many values; a has 2, b has 3"),
        (["a=1,2", "beta=1,2"], "b is not swept; swept are a, beta"),
        (["sweep.zip=a,b", "a=1,2"], "sweep.zip=a,b: applies to the whole sweep"),
        (["a=interval(0,1)"], "a grid needs values, such as a=1,2 or range"),
    ],
)
def test_what_cannot_be_zipped_or_listed_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        grid(parsed(*overrides), [["a", "b"]])


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (None, True),
        (["a", "b"], True),
        ([["a", "b"], ["c", "d"]], True),
        ([], False),
        (["a"], False),
        (["a", "a"], False),
        ([["a", "b"], ["b", "c"]], False),
        ([["a", "b"], "c"], False),
        ("a", False),
        ([1, 2], False),
    ],
)
def test_groups_of_two_or_more_settings_each_once_can_be_zipped(
    value: object, allowed: bool
) -> None:
    assert schema.RULES[ZIP].accepts(value) is allowed

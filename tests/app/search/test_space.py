"""What a search may set, in Hydra's override grammar."""

from __future__ import annotations

import pytest

from mnist_exp.app.search.space import Choice, Numbers, Range, read_space
from mnist_exp.errors import UserError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("interval(0,1)", Numbers(0.0, 1.0)),
        ("tag(log,interval(1e-4,1))", Numbers(1e-4, 1.0, log=True)),
        ("int(interval(8,64))", Numbers(8, 64)),
        ("int(tag(log,interval(8,64)))", Numbers(8, 64, log=True)),
        ("range(1,8,3)", Numbers(1, 7, 3)),  # Hydra's range ends before its stop
        ("range(7,0,-3)", Numbers(1, 7, 3)),
        ("tag(log,range(1,9))", Numbers(1, 8, None, log=True)),
        ("range(0.1,0.5,0.1)", Numbers(0.1, 0.4, 0.1)),
        ("mlp,cnn21k,mlp", Choice(("mlp", "cnn21k"))),
        ("choice(0.5,true,[1,2],'a b')", Choice(("0.5", "True", "[1,2]", r"a\ b"))),
    ],
)
def test_each_form_of_a_sweep_is_a_range(text: str, found: Range) -> None:
    space = read_space([f"x.y={text}", "model=mlp"], {})
    assert space.ranges == {"x.y": found}
    assert space.fixed == ["model=mlp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "nothing is searched"),
        ("tag(log,interval(0,1))", "lower bound must be above 0"),
        ("interval(2,1)", "at most the upper one"),
        ("tag(log,range(1,9,2))", "needs a step of 1"),
        ("tag(log,range(0.5,2.5))", "needs whole numbers"),
        ("tag(ln,interval(1,2))", r"tag\(ln, ...\): allowed is tag\(log, ...\)"),
        ("tag(log,choice(1,2))", "is for interval"),
        ("range(2,1)", "has no values"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_space([f"x.y={text}"], {})


def test_the_command_line_replaces_the_ranges_of_an_option() -> None:
    params = {"a.b": "interval(0,1)", "c.d": "1,2", "e.f": 3}
    space = read_space(["a.b=5", "c.d=range(1,3)"], params)
    assert space.ranges == {"c.d": Numbers(1, 2, 1)}
    assert space.fixed == ["e.f=3", "a.b=5"]


def test_a_trial_gets_an_override_for_each_range() -> None:
    texts = ["+a.b=interval(0,1)", "n=int(interval(1,9))", "s=range(0.1,0.5,0.1)", "m=x,'y z'"]
    space = read_space(["seed=1", *texts], {})
    values = {"+a.b": 1 / 3, "n": 4, "s": 0.1 + 2 * 0.1, "m": "'y z'"}
    assert space.overrides(values) == [
        *("seed=1", "+a.b=0.3333333333333333", "n=4", "s=0.3", "m='y z'"),
    ]


def test_a_grid_has_every_value_and_no_interval() -> None:
    space = read_space(["a=range(1,8,3)", "b=range(0.5,2,0.5)", "c=x,y"], {})
    assert space.grid() == {"a": [1, 4, 7], "b": [0.5, 1.0, 1.5], "c": ["x", "y"]}
    with pytest.raises(UserError, match="a grid needs values, not an interval"):
        read_space(["a=interval(0,1)"], {}).grid()

"""A name is a single path component on any system."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.files.names import check_plain_name, is_plain_name
from mnist_exp.terminal import printable, printable_lines
from tests.conftest import Compose


@pytest.mark.parametrize(
    "name",
    ["gradients", "mlp 300", "network.0.weight", "Größe", "a_b", "x" * 200],
)
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)
    check_plain_name(name, "the name")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../../up",
            "/abs",
            "a/b",
            "a\\b",
            "C:x",
            "a/",
            ".hidden",
            "-x",
            "x.",
            "x ",
        ),
        *("a\0b", "a\nb", "\x1b[2J", "a\u202eb", "\udc80", "x" * 201, "ü" * 101),
        *(None, 3, ["x"], Path("x")),
    ],
)
def test_names_that_are_none(name: object) -> None:
    assert not is_plain_name(name)
    with pytest.raises(UserError, match=r"the name is .*; allowed is a plain name"):
        check_plain_name(name, "the name")


@given(name=st.text())
def test_a_plain_name_stays_in_its_directory(name: str) -> None:
    if is_plain_name(name):
        assert Path("/directory", name).resolve() == Path("/directory") / name
        assert PureWindowsPath("c:/directory", name).parent == PureWindowsPath("c:/directory")


@pytest.mark.parametrize("value", ["../../up", "", "/tmp/x", "a\\nb", "3"])
def test_a_models_name_becomes_a_directory_and_is_checked(
    compose_config: Compose, value: str
) -> None:
    with pytest.raises(UserError, match=r"model\.name=.*allowed is a plain name"):
        schema.check(compose_config(f'model.name="{value}"' if value != "3" else "model.name=3"))


@given(text=st.text())
def test_what_is_printed_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()  # no lone surrogates
    assert printable_lines(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert printable(text) == text

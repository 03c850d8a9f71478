"""What is printed to paste into a shell arrives there, and in Hydra, as it was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import hypothesis
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_exp.run.command_line import PROGRAM, command, override, resume_command, shell_word
from tests.helpers.odd_names import ODD_NAMES


def read_by_hydra(text: str) -> object:
    """Return the value that an override sets, interpolations resolved."""
    value = OverridesParser.create().parse_override(text).value()
    return OmegaConf.create({"value": value}).value


def words_of(line: str) -> list[str]:
    """Return the words into which a shell divides a line."""
    script = f"printf '%s\\0' {line}".encode(errors="surrogateescape")
    ended = subprocess.run(["bash"], input=script, stdout=subprocess.PIPE, check=True)
    return [os.fsdecode(word) for word in ended.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_hydra_reads_the_text_that_was_quoted(name: str) -> None:
    assert read_by_hydra(override("resume", name)) == name


@hypothesis.given(st.text(alphabet=list("a0_.-/\\\"'${}: ,=\n#~é[(;*\udcff"), max_size=8))
@hypothesis.example("null")
@hypothesis.example("INF")
def test_hydra_reads_any_text(name: str) -> None:
    if name:
        assert read_by_hydra(override("resume", name)) == name


def test_the_shell_reads_the_words_that_were_quoted() -> None:
    lines = [command(override("resume", name), name) for name in ODD_NAMES]
    assert all(line.isprintable() for line in lines)
    printed = " ".join(line.removeprefix(PROGRAM) for line in lines)
    expected = [word for name in ODD_NAMES for word in (override("resume", name), name)]
    assert words_of(printed) == expected


def test_plain_paths_stay_readable() -> None:
    path = Path("outputs/2026-11-26/10-15-00-mlp")
    assert resume_command(path) == f"{PROGRAM} resume={path}"
    assert resume_command(Path("run")) == f"{PROGRAM} resume=run"
    assert resume_command(Path("lr=0.1"), "sweep") == f"{PROGRAM} 'sweep.resume=\"lr=0.1\"'"
    assert shell_word("it's") == "'it'\"'\"'s'"

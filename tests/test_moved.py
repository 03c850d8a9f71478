"""Old module names still work: imports give the same object, ``python -m`` the same command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("order", ["old, new", "new, old"])
def test_every_old_name_is_the_module_of_today(tmp_path: Path, order: str) -> None:
    code = f"""
from importlib import import_module
from mnist_exp._moved import MOVED
for old, new in MOVED.items():
    old, new = "mnist_exp." + old, "mnist_exp." + new
    first, second = map(import_module, ({order}))
    assert first is second, old
    assert first.__name__ == first.__spec__.name == new, old
print(len(MOVED))
"""
    ended = python("-c", code, cwd=tmp_path)
    assert ended.stderr == ""
    assert int(ended.stdout) > 40


@pytest.mark.parametrize(
    ("old", "word"),
    [
        ("run.table", "view-results"),
        ("recipe_over_seeds", "seeds"),
        ("env_check", "env-check"),
        ("check_models", "check-models"),
    ],
)
def test_an_old_module_still_runs_as_its_command(tmp_path: Path, old: str, word: str) -> None:
    ended = python("-m", f"mnist_exp.{old}", "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr == f"python -m mnist_exp.{old} is called python -m mnist_exp {word} now.\n"
    assert ended.stdout.startswith(f"usage: python -m mnist_exp {word} ")


def test_an_old_module_takes_arguments_and_hands_back_the_exit_code(tmp_path: Path) -> None:
    ended = python("-m", "mnist_exp.run.table", ".", "--limit", "2", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "no run in .\n")
    assert python("-m", "mnist_exp.run.table", "nowhere", cwd=tmp_path).returncode == 2


def test_an_old_module_that_is_no_command_does_not_run(tmp_path: Path) -> None:
    ended = python("-m", "mnist_exp.weights", cwd=tmp_path)
    assert ended.returncode == 1
    assert "No code object available for mnist_exp.weights" in ended.stderr

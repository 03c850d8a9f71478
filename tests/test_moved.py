"""Old module names still work: imports give the same object, ``python -m`` the same command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.helpers.fault_injection import exit_code, start

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
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")], ids=", ".join)
def test_every_old_name_is_the_module_of_today(tmp_path: Path, order: tuple[str, str]) -> None:
    def import_all() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mnist_exp"]:
            del sys.modules[name]  # torch and the like stay
        moved = import_module("mnist_exp._moved").MOVED
        for old, new in moved.items():
            names = {"old": f"mnist_exp.{old}", "new": f"mnist_exp.{new}"}
            first, second = (import_module(names[which]) for which in order)
            assert first is second, old
            assert first.__spec__ is not None
            assert first.__name__ == first.__spec__.name == names["new"], old
        print(len(moved))

    code = exit_code(start(import_all, tmp_path / "log"))
    printed = (tmp_path / "log").read_text()
    assert code == 0, printed
    assert int(printed) > 40  # and no warning


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

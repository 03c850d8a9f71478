"""``--help`` and shell completion: what they list and what they hide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_exp.app.commands import COMMANDS
from tests.app.test_main import run
from tests.conftest import Compose
from tests.helpers.fault_injection import command

REPOSITORY = Path(__file__).parents[2]


def completed(line: str, cwd: Path, shell: str = "bash") -> list[str]:
    """Return the completions of a command line."""
    code, output = command(
        "-sc", f"query={shell}", cwd=cwd, prepare=lambda: os.environ.update(COMP_LINE=line)
    )
    assert code == 0, output
    (cwd / "command.log").unlink()
    return output.split()


def test_help_lists_commands_examples_choices_and_keys(tmp_path: Path) -> None:
    ended = run("--help", "model=mlp100", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr == ""
    page = ended.stdout
    assert page.startswith("mnist_exp trains small networks")
    assert "powered by Hydra" not in page
    assert all(f"  {word}" in page and text in page for word, text in COMMANDS.items())
    assert re.search(r"^optimizer: adagrad, adam, .*sgd$", page, re.MULTILINE)
    assert "_target_: mnist_exp.models.MLP" in page  # the keys of the options given
    groups = page.partition("Groups and")[2].partition("Keys and")[0]
    assert "recipe" not in groups
    assert not re.search(r"\b_\w", groups)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_examples_of_the_help_page_compose(tmp_path: Path, compose_config: Compose) -> None:
    page = run("--help", cwd=tmp_path).stdout
    examples = page.partition("Examples:")[2].partition("Groups and")[0].replace("\\\n", "")
    commands = [line.split() for line in examples.splitlines() if "python -m" in line]
    assert len(commands) == 3
    for _, _, _, *arguments in commands:
        compose_config(*(text.partition(",")[0] for text in arguments if text != "-m"))


@pytest.mark.slow
def test_options_of_the_users_own_are_listed(tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("a: 1\n")
    page = run("--help", f"--config-dir={tmp_path / 'own'}", cwd=tmp_path).stdout
    assert "mine, mlp" in page


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_complete_as_the_first_word_only(tmp_path: Path, shell: str) -> None:
    first = completed("mnist_exp ", tmp_path, shell)
    assert {*COMMANDS, "model=", "training."} <= {*first}
    assert completed("mnist_exp v", tmp_path, shell) == ["view-results", "verbose="]
    assert completed("mnist_exp model=mlp100 v", tmp_path, shell) == ["verbose="]
    assert completed("mnist_exp view-results ", tmp_path, shell) == []  # the shell lists files
    assert completed("mnist_exp view-results --so", tmp_path, shell) == []


def test_private_options_do_not_complete(tmp_path: Path) -> None:
    offered = completed("mnist_exp constraint=", tmp_path)
    assert "constraint=memristor" in offered
    assert not any("=_" in text for text in offered)
    assert completed("mnist_exp optimizer/", tmp_path) == []
    assert "optimizer=" in completed("mnist_exp optim", tmp_path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_command(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "mnist_exp"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nfrom mnist_exp.__main__ import main\nmain()\n", encoding="utf-8"
    )
    script.chmod(0o755)
    lines = (
        'eval "$(mnist_exp -sc install=bash)"; COMP_LINE="mnist_exp view"; COMP_POINT=14; '
        'COMP_CWORD=1; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", lines],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "view-results\n"

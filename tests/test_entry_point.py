"""The console script and ``python -m mnist_exp`` find the same modules, and end on Ctrl-C alike."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_exp
from mnist_exp.__main__ import find_modules_here
from mnist_exp.app import commands, hydra_app
from mnist_exp.app.main import main
from tests.helpers.fault_injection import few_images

REPOSITORY = Path(mnist_exp.__file__).parents[1]
# As pip writes it for [project.scripts].
SCRIPT = """
import sys
from mnist_exp.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
MODEL = """
from torch import nn


def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
"""


def test_the_console_script_is_the_entry_point() -> None:
    (target,) = re.findall(
        r'^mnist_exp = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), re.M
    )
    assert target == "mnist_exp.__main__:main"


@pytest.mark.parametrize("arguments", [["settings"], ["model=mlp"]], ids=str)
def test_idle_threads_sleep_whatever_is_run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def note(*words: str) -> int:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        return 0

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "as before, after the test")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["mnist_exp", *arguments])
    monkeypatch.setattr(commands, "run", note)
    monkeypatch.setattr(hydra_app, "main", note)
    with contextlib.suppress(SystemExit):
        main()
    assert seen == ["PASSIVE"]


def test_the_current_directory_comes_first_unless_python_is_asked_to_be_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    find_modules_here()
    find_modules_here()
    assert sys.path == [str(tmp_path), "/usr/lib"]


@pytest.mark.slow
def test_the_console_script_finds_a_module_of_the_current_directory_and_cleans_up(
    tmp_path: Path,
) -> None:
    script = tmp_path / "bin" / "mnist_exp"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    here = tmp_path / "here"
    here.mkdir()
    (here / "own_net.py").write_text(MODEL)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ended = subprocess.run(
        [
            *(sys.executable, str(script), *few_images(), "model._target_=own_net.net"),
            *("cv=kfold", "cv.n_splits=2", "cv.n_jobs=2", "data.subset=100"),
            *("training.epochs=1", "plots.enabled=false", "report.enabled=false"),
        ],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    left = {path.name for path in temporary.iterdir()}
    assert {name for name in left if not name.startswith("torchinductor")} == set()


def test_little_loads_before_ctrl_c_is_caught() -> None:
    """Modules of the standard library that take milliseconds wait until `main` runs."""
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import mnist_exp.__main__
print(*sys.modules)
"""
    loaded = subprocess.check_output([sys.executable, "-ISc", code], text=True).split()
    assert "mnist_exp.__main__" in loaded
    assert not {"typing", "tempfile", "importlib.abc"} & set(loaded)


@pytest.mark.parametrize("module", ["mnist_exp.app.main", "hydra", "omegaconf"])
def test_ctrl_c_while_modules_load_is_one_line(tmp_path: Path, module: str) -> None:
    """A signal arrives as a module begins to load."""
    text = (
        "import os, signal, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stop())\n"
    )
    (tmp_path / "sitecustomize.py").write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "mnist_exp", "--cfg", "job"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "stopped by SIGINT\n")

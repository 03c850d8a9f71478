"""The built wheel holds everything a run needs, and runs from any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("mnist_exp", "hydra_plugins")


@pytest.fixture(scope="module", params=[True, False], ids=["compiler", "no compiler"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, to keep build files out of the checkout."""
    source = tmp_path_factory.mktemp("source")
    others = ("conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")
    for name in (*PACKAGES, *others):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(source)], check=True)
    for compiled in source.rglob("*.so"):
        compiled.unlink()
    target = tmp_path_factory.mktemp("wheel")
    quick = source / "cc"  # the last option counts
    quick.write_text('#!/bin/sh\nexec cc "$@" -O1\n')
    quick.chmod(0o755)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(target), str(source)],
        env={**os.environ, "CC": str(quick) if request.param else "false"},
        check=True,
    )  # fmt: skip
    (path,) = target.glob("*.whl")
    return path


@pytest.mark.slow
@pytest.mark.wheel
def test_wheel_holds_code_config_and_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    python_files = {
        p.relative_to(REPOSITORY) for name in PACKAGES for p in (REPOSITORY / name).rglob("*.py")
    }
    assert {str(path) for path in python_files} <= set(names)
    configs = {p.relative_to(REPOSITORY) for p in (REPOSITORY / "conf").rglob("*.yaml")}
    assert {f"mnist_exp/{path}" for path in configs} <= set(names)
    assert sum(name.endswith("-ubyte.gz") for name in names) == 4
    assert "mnist_exp/data/mnist/README.md" in names
    assert {
        "mnist_exp/cpu/kernels/csrc/linear_layers.c",
        "mnist_exp/cpu/kernels/csrc/vectors.h",
    } <= set(names)


@pytest.mark.slow
@pytest.mark.wheel
def test_unpacked_wheel_trains_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "mnist_exp", "model=mlp", "debug=fast", "plots.enabled=false"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    compiled = bool(list(installed.rglob("*.so")))
    assert ("no compiled kernels" in ended.stdout + ended.stderr) == (not compiled)
    assert list(elsewhere.glob("outputs/*/*-mlp/results.json"))

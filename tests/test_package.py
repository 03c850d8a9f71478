"""What is released: one version, and files that install and run where there is no compiler.

The tests marked `wheel` take the files that `make dist` has built.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from mnist_exp._version import __version__

REPOSITORY = Path(__file__).parents[1]
FILES = {
    "sdist": f"mnist_exp-{__version__}.tar.gz",
    "wheel with kernels": f"mnist_exp-{__version__}-cp3*-linux_x86_64.whl",
    "wheel for any platform": f"mnist_exp-{__version__}-py3-none-any.whl",
}
Ended = subprocess.CompletedProcess[str]
WHEELS = [name for name in FILES if name.startswith("wheel")]
MINIMAL = ["data.subset=300", "cv.test=500", "hydra.run.dir=run"]


def built(name: str) -> Path:
    found = list((REPOSITORY / "dist").glob(FILES[name]))
    assert len(found) == 1, f"{FILES[name]}: make dist builds it and runs these tests"
    return found[0]


def test_the_version_stands_in_one_place_and_in_the_citation() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert 'version = { attr = "mnist_exp._version.__version__" }' in project
    assert not re.search(r'^version = "', project, re.MULTILINE)
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert f'license = "{citation["license"]}"' in project
    assert f'authors = [{{ name = "{citation["authors"][0]["name"]}" }}]' in project
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    assert f"## [{'Unreleased' if '.dev' in __version__ else __version__}]" in changes


@pytest.mark.slow
@pytest.mark.wheel
@pytest.mark.parametrize("name", WHEELS)
def test_wheel_holds_code_config_and_data(name: str) -> None:
    archive = zipfile.ZipFile(built(name))
    names = set(archive.namelist())
    needed = [
        path
        for room in ("mnist_exp", "hydra_plugins")
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".so") and path.name != "README.md"
    ]
    needed.append(REPOSITORY / "mnist_exp/data/mnist/README.md")  # whose files they are
    configs = [*REPOSITORY.glob("conf/**/*.yaml")]
    assert min(len(needed), len(configs)) > 50
    assert {path.relative_to(REPOSITORY).as_posix() for path in needed} <= names
    assert {f"mnist_exp/{path.relative_to(REPOSITORY).as_posix()}" for path in configs} <= names
    compiled = [entry for entry in names if entry.endswith(".so")]
    assert len(compiled) == (2 if name == "wheel with kernels" else 0)
    metadata = archive.read(f"mnist_exp-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata


@pytest.mark.slow
@pytest.mark.wheel
def test_sdist_holds_what_people_read_and_the_tests() -> None:
    top = f"mnist_exp-{__version__}"
    with tarfile.open(built("sdist")) as archive:
        names = set(archive.getnames())
    read = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md")
    others = ("docs/platforms.md", "docs/images/predictions.png", "tests/test_package.py")
    assert {f"{top}/{name}" for name in (*read, *others)} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@pytest.fixture(scope="module", params=FILES)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a file into an empty environment without a compiler; return its ``bin``.

    torch takes minutes and gigabytes, so the environment finds pip and the dependencies in that of
    the tests, by a .pth file: pip takes them for installed, and the editable mnist_exp is not seen.
    """
    environment = tmp_path_factory.mktemp("installed") / "env"
    make = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(make, check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    borrowed = environment / "lib" / version / "site-packages" / "borrowed.pth"
    borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    programs = environment / "bin"
    install = [*("-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-index")]
    ended = run(programs, *install, "--ignore-installed", "--no-deps", str(built(request.param)))
    assert ended.returncode == 0, ended.stderr
    ended = run(programs, *install, str(built(request.param)))  # all dependencies are there
    assert ended.returncode == 0, ended.stderr
    return programs


def run(
    programs: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python with nothing on the PATH but the environment's programs."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC", "CXX")}
    return subprocess.run(
        [str(programs / "python"), *arguments],
        cwd=cwd or programs,
        env={**kept, "PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.wheel
def test_the_commands_of_the_readme_run_where_it_is_installed(
    installed: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def output(*arguments: str) -> str:
        ended = run(installed, "-m", "mnist_exp", *arguments, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    assert "model=" in output("--help")
    assert output("--version") == f"mnist_exp {__version__}\n"
    trained = output("model=cnn21k", *MINIMAL)
    kernels = "wheel with kernels" in request.node.name
    assert ("no compiled kernels" in trained) == (not kernels)
    assert (tmp_path / "run" / "plots" / "predictions.png").is_file()
    assert "cnn21k" in output("view-results", "run")
    assert "identical" in output("reproduce", "run", "hydra.run.dir=again")
    where = run(installed, "-c", "import mnist_exp; print(mnist_exp.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)

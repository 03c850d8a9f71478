"""Shared by all tests: one thread per process, the bundled MNIST, composed configurations.

What tests and the processes they start leave in the temporary directory goes at the end.
"""

from __future__ import annotations

import copy
import functools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: pytest runs a process per core
if "PYTEST_XDIST_WORKER" not in os.environ and not any("--device" in word for word in sys.argv):
    # `runtime=auto` would choose a GPU; tests fork, which CUDA forbids, and know the CPU's numbers
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # workers inherit it

import hypothesis
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from mnist_exp.data import Dataset, load_mnist
from mnist_exp.files.shipped_config import config_directory

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("suite")

# Tests that fork, send signals, limit resources or read /proc run on Linux alone.
LINUX_ALONE = re.compile(r"fault_injection|os\.fork|fcntl|termios|import resource|/proc/|SIGKILL")
collect_ignore = [
    str(path)
    for path in Path(__file__).parent.rglob("test_*.py")
    if sys.platform != "linux" and LINUX_ALONE.search(path.read_text(encoding="utf-8"))
]

Compose = Callable[..., DictConfig]

TEMPORARY = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests a temporary directory of their own; pytest's directories stay beside it.

    Processes that end by a signal, by `os._exit` or as pytest-xdist's workers do leave theirs.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        config.stash[TEMPORARY] = made = Path(tempfile.mkdtemp(prefix="tests-"))
        made.chmod(0o711)  # PostgreSQL's and munge's own users pass through it
        os.environ["TMPDIR"] = tempfile.tempdir = str(made)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return a worker more than cores: tests of interruptions mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_unconfigure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(config.stash[TEMPORARY], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _parsed_once() -> Iterator[None]:
    """Parse a YAML text once: every command reads dozens of files of ``conf/``."""
    load, parsed = yaml.load, dict[tuple[str, str], Any]()

    def load_once(stream: str | IO[str], Loader: type) -> Any:
        text = stream if isinstance(stream, str) else stream.read()
        key = text, Loader.__qualname__
        if key not in parsed:
            if not isinstance(stream, str):
                stream.seek(0)  # for a message with the file's name
            parsed[key] = load(stream, Loader)
        return copy.deepcopy(parsed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "load", load_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def mnist() -> Iterator[Dataset]:
    """The bundled MNIST, which all runs in this process and its forks share."""
    dataset = load_mnist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_exp.data.load_mnist", lambda: dataset)
        yield dataset


@functools.lru_cache(maxsize=500)
def composed_by_hydra(overrides: tuple[str, ...]) -> DictConfig:
    """Compose the configuration of a command line, without Hydra's own part."""
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose("config", list(overrides))


def composed_once(*overrides: str) -> DictConfig:
    """Compose as Hydra does, but choose the same options only once.

    Hydra, too, sets values such as ``training.epochs=2`` last, in what the options gave.
    """
    parsed = [_parsed(text) for text in overrides]
    values = [override for override in parsed if _is_value(override)]
    if any(isinstance(o.value(), dict) for o in parsed if o not in values):  # not an option
        return copy.deepcopy(composed_by_hydra(overrides))
    options = tuple(text for text, o in zip(overrides, parsed, strict=True) if o not in values)
    config = copy.deepcopy(composed_by_hydra(options))
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config


@functools.lru_cache(maxsize=2000)
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def _is_value(override: Override) -> bool:
    key = override.key_or_group
    of_group = key.partition(".")[0] == "hydra" or (config_directory() / key).is_dir()
    return not (of_group or override.is_sweep_override())


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """`composed_once`."""
    return composed_once


@pytest.fixture
def small_run(tmp_path: Path) -> list[str]:
    """Overrides for a small run: few images, no plots, its own directory."""
    return [
        "data.subset=200",
        "cv.test=200",
        "plots.enabled=false",
        "report.enabled=false",
        "training.epochs=2",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]


@pytest.fixture(autouse=True)
def _restore_torch_settings() -> object:
    yield
    torch.use_deterministic_algorithms(False)

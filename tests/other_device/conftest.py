"""The device that is not the CPU: an imitation, or with ``--device`` the machine's own GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mnist_exp.errors import UserError
from mnist_exp.train.compute_device import compute_device
from tests.other_device.device import NAME, RealDevice, compiler, load


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=["cuda", "mps"], help="the GPU to run on; else imitated")


def pytest_sessionstart(session: pytest.Session) -> None:
    if (name := real(session.config)) is not None:
        try:
            compute_device(name)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None


def real(config: pytest.Config) -> str | None:
    """Return the GPU that was asked for; None: the imitation."""
    name: str | None = config.getoption("--device", None)
    return name


@pytest.fixture(scope="session")
def functions(pytestconfig: pytest.Config) -> Any:
    """Functions of the imitation's library, or what stands for them on a real device."""
    name = real(pytestconfig)
    if name is not None:
        return RealDevice(compute_device(name))
    if compiler() is None:
        pytest.skip("no C++ compiler")
    return load()


@pytest.fixture
def imitated(pytestconfig: pytest.Config) -> None:
    """Skip a test of the imitation itself."""
    if real(pytestconfig) is not None:
        pytest.skip("tests the imitation")


@pytest.fixture
def nvidia(pytestconfig: pytest.Config) -> torch.device:
    """An NVIDIA GPU; without ``--device cuda`` the test is skipped."""
    if real(pytestconfig) != "cuda":
        pytest.skip("needs an NVIDIA GPU, and --device cuda")
    return torch.device("cuda")


def choose(patch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Let ``runtime.device=auto`` choose a device."""

    def chosen(name: str) -> torch.device:
        return device if name in ("auto", device.type) else compute_device(name)

    for user in ("experiment.build", "experiment.trained", "sklearn.training"):
        patch.setattr(f"mnist_exp.{user}.compute_device", chosen)


@pytest.fixture
def gpu(
    functions: Any, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> Iterator[torch.device]:
    """The device, which ``auto`` chooses; like Apple's GPUs the imitation has no float64."""
    device = torch.device(real(pytestconfig) or NAME)
    choose(monkeypatch, device)
    functions.allow_float64(False)
    yield device
    functions.allow_float64(True)

"""The device, for the tests of this folder alone: it stays in the process that loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mnist_exp.train.compute_device import compute_device
from tests.other_device.device import NAME, compiler, load


@pytest.fixture(scope="session")
def functions() -> Any:
    """Functions of the device's library."""
    if compiler() is None:
        pytest.skip("no C++ compiler")
    return load()


def choose(patch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Let ``runtime.device=auto`` choose a device."""

    def chosen(name: str) -> torch.device:
        return device if name in ("auto", device.type) else compute_device(name)

    for user in ("experiment.build", "experiment.trained", "sklearn.training"):
        patch.setattr(f"mnist_exp.{user}.compute_device", chosen)


@pytest.fixture
def gpu(functions: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The device, which ``auto`` chooses; like Apple's GPUs it has no float64."""
    device = torch.device(NAME)
    choose(monkeypatch, device)
    functions.allow_float64(False)
    yield device
    functions.allow_float64(True)

"""Environment of a result: package versions, git commit, device."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import torch

from mnist_exp._version import __version__
from mnist_exp.cpu.features import cpu_name

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "scikit-learn")


def device_name(device: torch.device) -> str:
    """Return the model name of the CPU or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {
        "mnist_exp": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
    return MappingProxyType(found)


@cache  # the process goes on with the code it has loaded
def git_commit(directory: Path) -> str | None:
    """Return the git commit of ``directory``, with ``-dirty`` if modified; None if unknown."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or not a checkout
        return None
    return found.stdout.strip()

"""What a result was computed with: versions, commit, device."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from mnist_exp._version import __version__
from mnist_exp.cpu.features import cpu_name

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "scikit-learn")


def device_name(device: torch.device) -> str:
    """Return the name of the CPU or GPU that ``device`` is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    return {
        "mnist_exp": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def git_commit(directory: Path) -> str | None:
    """Return the commit of the checkout ``directory`` is in, with ``-dirty`` if it has changes."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None
    return found.stdout.strip()

"""What a run ran on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from mnist_exp import __version__

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "scikit-learn")


def cpu_name() -> str:
    """Return the processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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

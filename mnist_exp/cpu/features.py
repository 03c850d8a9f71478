"""What a run ran on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from mnist_exp import __version__

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "scikit-learn")


# Instruction sets that decide how fast float32 and bf16 are, as /proc/cpuinfo names them.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def cpu_name() -> str:
    """Return the processor's name as the operating system gives it."""
    # platform.processor() is empty on most Linux systems
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_vendor() -> str:
    """Return the processor's maker as Linux names it, such as "AuthenticAMD"; "" if unknown."""
    return _cpuinfo("vendor_id")


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of an x86 processor as Linux names them; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def cpu_features() -> list[str]:
    """Return those of ``CPU_FEATURES`` the processor has; torch's own word where Linux's lacks."""
    flags = cpu_flags()
    if not flags:
        return [torch.backends.cpu.get_cpu_capability()]
    return [feature for feature in CPU_FEATURES if feature in flags]


def fast_precision(device: torch.device) -> str:
    """Return "bf16" where ``device`` has instructions for it, else "fp32"."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and any("bf16" in feature for feature in cpu_features())
    return "bf16" if fast else "fp32"


def _cpuinfo(key: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


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

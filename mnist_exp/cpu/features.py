"""Name and features of the processor."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

# Instruction sets that matter for float32 and bf16 speed, as named in /proc/cpuinfo.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def cpu_name() -> str:
    """Return the processor's name as reported by the operating system."""
    # platform.processor() is empty on most Linux systems
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_vendor() -> str:
    """Return the processor's vendor ID on Linux, such as "AuthenticAMD"; "" if unknown."""
    return _cpuinfo("vendor_id")


def cpu_flags() -> frozenset[str]:
    """Return an x86 processor's instruction sets, by their Linux names; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def cpu_features() -> list[str]:
    """Return the supported ``CPU_FEATURES``, or torch's CPU capability without /proc/cpuinfo."""
    flags = cpu_flags()
    if not flags:
        return [torch.backends.cpu.get_cpu_capability()]
    return [feature for feature in CPU_FEATURES if feature in flags]


def _cpuinfo(key: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""

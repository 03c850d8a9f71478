"""What a run ran on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

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


def _cpuinfo(key: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""

"""Which of torch's two libraries computes float32 matrix products on the CPU."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import ClassVar

import torch

from mnist_exp.hardware import cpu_features, cpu_vendor

_SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


class FastFloat32Products(AbstractContextManager[None]):
    """Let oneDNN compute float32 matrix products in a block, where that is faster.

    torch asks MKL, which leaves the AVX-512 units of AMD's processors idle: there oneDNN takes half
    the time. On other hardware, and where `onednn_is_better` finds that numbers would be less
    exact, nothing changes. May be nested. The setting is the process's: products that other Python
    threads compute meanwhile are exact as well, but may be rounded in another way.
    """

    _lock: ClassVar = threading.Lock()
    _users: ClassVar[int] = 0  # blocks under way, in all threads
    _before: ClassVar[str] = "none"  # the setting outside of them

    def __enter__(self) -> None:
        cls = FastFloat32Products
        with cls._lock:
            if onednn_is_better() and cls._users == 0:
                cls._before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
            cls._users += 1

    def __exit__(self, *error: object) -> None:
        cls = FastFloat32Products
        with cls._lock:
            cls._users -= 1
            if onednn_is_better() and cls._users == 0:
                _SETTING.fp32_precision = cls._before


_turns = threading.Lock()


def take_turns(device: torch.device) -> AbstractContextManager[object]:
    """Return a block that Python threads go through one after the other where that decides bits.

    That is on CPUs where `FastFloat32Products` changes something: within the block, no other
    thread that takes turns has the library changed under its products.
    """
    return _turns if device.type == "cpu" and onednn_is_better() else nullcontext()


@cache
def onednn_is_better() -> bool:
    """Tell whether oneDNN is the faster library for float32 products here, and as exact as MKL.

    torch hands float32 products to oneDNN only under a setting that would let it round to bf16. On
    processors without AMX oneDNN makes no use of that, which is tried before it is relied on.
    """
    if cpu_vendor() != "AuthenticAMD" or "avx512f" not in cpu_features():
        return False
    fine = torch.eye(64) * (1 + 2**-20)  # bf16 would make it 1
    before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
    try:
        return torch.equal(fine @ torch.eye(64), fine)
    finally:
        _SETTING.fp32_precision = before


def fast_float32_products(device: torch.device) -> AbstractContextManager[None]:
    """Return a block in which float32 products on ``device`` are computed by the faster library."""
    return FastFloat32Products() if device.type == "cpu" else nullcontext()


def library(device: torch.device) -> str:
    """Name what computes float32 products on ``device``."""
    if device.type != "cpu":
        return "torch's default"
    with FastFloat32Products._lock:
        return "oneDNN" if onednn_is_better() else "torch's default"

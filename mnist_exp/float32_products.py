"""Which of torch's two libraries computes float32 matrix products on the CPU."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from functools import cache
from typing import ClassVar

import torch

from mnist_exp.hardware import cpu_features, cpu_vendor

_SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


class FastFloat32Products(ContextDecorator):
    """Let oneDNN compute float32 matrix products in a block or function, where that is faster.

    torch asks MKL, which leaves the AVX-512 units of AMD's processors idle: there oneDNN takes half
    the time. On other hardware, and where `onednn_is_better` finds that numbers would be less
    exact, nothing changes. May be nested, and used in several threads.
    """

    _lock: ClassVar = threading.Lock()
    _users: ClassVar[int] = 0  # blocks under way, in all threads
    _before: ClassVar[str] = "none"  # the setting outside of them

    def __enter__(self) -> None:
        cls = FastFloat32Products
        with cls._lock:
            if cls._users == 0 and onednn_is_better():
                cls._before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
            cls._users += 1

    def __exit__(self, *error: object) -> None:
        cls = FastFloat32Products
        with cls._lock:
            cls._users -= 1
            if cls._users == 0 and onednn_is_better():
                _SETTING.fp32_precision = cls._before


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
    exact = torch.equal(fine @ torch.eye(64), fine)
    _SETTING.fp32_precision = before
    return exact


def library(device: torch.device) -> str:
    """Name what computes float32 products on ``device``."""
    on_cpu = device.type == "cpu"
    return "oneDNN" if on_cpu and onednn_is_better() else "torch's default"

"""Which of torch's two libraries computes float32 matrix products on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from mnist_exp.cpu.features import cpu_features, cpu_vendor

_SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_lock = threading.Lock()
_users = 0  # blocks under way, in all threads
_outside = "none"  # the setting outside of them


def fast_float32_products(device: torch.device) -> AbstractContextManager[None]:
    """Return a block in which oneDNN computes float32 matrix products, where that is faster.

    torch uses MKL, which leaves the AVX-512 units of AMD's processors idle: there oneDNN takes half
    the time. On other hardware, and where `onednn_is_better` finds that results would be less
    exact, the block changes nothing. Blocks may be nested. The setting is the process's: products
    in other Python threads meanwhile are as exact, but may be rounded differently.
    """
    return _onednn() if device.type == "cpu" and onednn_is_better() else nullcontext()


@contextmanager
def _onednn() -> Iterator[None]:
    global _users, _outside  # noqa: PLW0603
    with _lock:
        if _users == 0:
            _outside, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _SETTING.fp32_precision = _outside


_turns = threading.Lock()


def take_turns(device: torch.device) -> AbstractContextManager[object]:
    """Return a block that Python threads go through one after the other where that decides bits.

    That is on CPUs where `fast_float32_products` changes something: within the block, no other
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
    one = torch.eye(64, dtype=torch.float32, device="cpu")
    fine = one * (1 + 2**-20)  # bf16 would make it 1
    before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
    try:
        return torch.equal(fine @ one, fine)
    finally:
        _SETTING.fp32_precision = before


def library(device: torch.device) -> str:
    """Name what computes float32 products on ``device``."""
    if device.type != "cpu":
        return "torch's default"
    with _lock:  # which keeps the setting as it is while it is tried
        return "oneDNN" if onednn_is_better() else "torch's default"

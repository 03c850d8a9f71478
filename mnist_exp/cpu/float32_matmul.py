"""Choice between MKL and oneDNN for float32 matrix products on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from mnist_exp.cpu.features import cpu_features, cpu_vendor

_SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_lock = threading.Lock()
_users = 0  # active blocks, over all threads
_outside = "none"  # the setting outside these blocks


def fast_float32_products(device: torch.device) -> AbstractContextManager[None]:
    """Return a block that uses oneDNN for float32 matrix products on a CPU, where it is faster.

    torch's default, MKL, leaves the AVX-512 units of AMD processors idle; oneDNN takes half the
    time there. The block changes nothing unless `onednn_is_better`. Blocks may be nested. The
    setting is process-wide: products in other Python threads stay as exact but may round
    differently.
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
    """Return a context manager that serializes Python threads where `onednn_is_better`.

    There, `fast_float32_products` changes the library for the whole process. Threads that enter
    this block get the same bits in every run, since none switches the library under another.
    """
    return _turns if device.type == "cpu" and onednn_is_better() else nullcontext()


@cache
def onednn_is_better() -> bool:
    """Return whether oneDNN computes float32 products faster than MKL here, and as exactly.

    torch passes float32 products to oneDNN only under a setting that permits rounding to bf16.
    oneDNN does not round on processors without AMX; a small product checks this first.
    """
    if cpu_vendor() != "AuthenticAMD" or "avx512f" not in cpu_features():
        return False
    one = torch.eye(64, dtype=torch.float32, device="cpu")
    fine = one * (1 + 2**-20)  # 1 in bf16
    before, _SETTING.fp32_precision = _SETTING.fp32_precision, "bf16"
    try:
        return torch.equal(fine @ one, fine)
    finally:
        _SETTING.fp32_precision = before


def library(device: torch.device) -> str:
    """Return the name of the library for float32 products on ``device``."""
    if device.type != "cpu":
        return "torch's default"
    with _lock:  # the check changes the setting for a moment
        return "oneDNN" if onednn_is_better() else "torch's default"

"""Checks of tensors before they reach the compiled functions, and memory for results.

Compiled functions see only addresses and sizes, so all other kinds of tensor are rejected here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Dispatch keys of an ordinary CPU tensor. Tensors that are sparse, lazily conjugated, fake, made in
# inference mode, or wrapped by vmap or grad have others.
with torch.inference_mode(False):
    _keys = torch._C._dispatch_keys
    PLAIN = _keys(torch.empty(0, device="cpu")).raw_repr()
FEW = 2**14  # elements that are filled in the time of some calls
KINDS = frozenset({Tensor, nn.Parameter})


def is_plain(tensor: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether a tensor is an ordinary contiguous CPU tensor of this dtype."""
    return (
        _keys(tensor).raw_repr() == PLAIN
        and type(tensor) in KINDS
        and tensor.dtype is dtype
        and tensor.is_contiguous()
    )


def are_plain(*tensors: Tensor) -> bool:
    """Return whether all tensors are plain float32 and no operation is traced."""
    return all(map(is_plain, tensors)) and not is_traced()


def are_labels(labels: Tensor, count: int) -> bool:
    """Return whether ``labels`` are plain int64 [count]."""
    return is_plain(labels, torch.int64) and labels.shape == (count,)


def are_recorded(*tensors: Tensor) -> bool:
    """Return whether autograd would record an operation on ``tensors``."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def is_traced() -> bool:
    """Return whether a dispatch mode or torch.compile intercepts torch's operations."""
    return bool(torch._C._len_torch_dispatch_stack()) or torch.compiler.is_compiling()


def empty(*shape: int) -> Tensor:
    """Return an uninitialised float32 CPU tensor, whatever torch's defaults are.

    In torch's deterministic mode, ``torch.empty`` fills it, which may take longer than the work.
    """
    count = math.prod(shape)
    if count < FEW:
        return torch.empty(shape, dtype=torch.float32, device="cpu")
    storage = torch.UntypedStorage(4 * count, device="cpu")
    return torch.empty(0, dtype=torch.float32, device="cpu").set_(storage, 0, shape)  # type: ignore[call-overload]


def changed(*tensors: Tensor) -> None:
    """Mark tensors as changed in place for autograd."""
    torch.autograd.graph.increment_version(tensors)

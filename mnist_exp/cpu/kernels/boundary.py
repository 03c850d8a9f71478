"""What the compiled functions take, and the memory that is made for them.

They see addresses and sizes. Whatever else a tensor can be must be told from a plain one here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# torch's own word for how a tensor on the CPU is worked on. Tensors that are sparse, lazily
# conjugated, made in inference mode, fake, or seen from inside of vmap or grad have another one.
with torch.inference_mode(False):
    _keys = torch._C._dispatch_keys
    PLAIN = _keys(torch.empty(0, device="cpu")).raw_repr()
KINDS = frozenset({Tensor, nn.Parameter})


def is_plain(tensor: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether a tensor is its numbers, of this type, side by side in the CPU's memory."""
    return (
        _keys(tensor).raw_repr() == PLAIN
        and type(tensor) in KINDS
        and tensor.dtype is dtype
        and tensor.is_contiguous()
    )


def are_plain(*tensors: Tensor) -> bool:
    """Return whether float32 tensors are plain, and nothing watches what is done with them."""
    return all(map(is_plain, tensors)) and not is_traced()


def are_labels(labels: Tensor, count: int) -> bool:
    """Return whether ``labels`` are int64 [count] as the kernels take them."""
    return is_plain(labels, torch.int64) and labels.shape == (count,)


def are_recorded(*tensors: Tensor) -> bool:
    """Return whether autograd would record an operation on ``tensors``."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def is_traced() -> bool:
    """Return whether a dispatch mode or torch.compile wants to see every operation of torch."""
    return bool(torch._C._len_torch_dispatch_stack()) or torch.compiler.is_compiling()


def empty(*shape: int) -> Tensor:
    """Return memory for float32 numbers on the CPU, whatever torch's defaults are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def changed(*tensors: Tensor) -> None:
    """Tell autograd that tensors are changed in place."""
    torch.autograd.graph.increment_version(tensors)

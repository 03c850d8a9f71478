"""torch's global settings: those of a run, and their restoration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cudnn

from mnist_exp.cpu.threads import cpu_threads, settle_threads
from mnist_exp.train.random_state import all_random_states_kept

of_new_tensors: Any = torch.utils.deterministic  # a module whose attributes types do not show


def set_deterministic(deterministic: bool) -> None:
    """Let operations without a deterministic implementation raise an error, or use them.

    Float32 convolutions on NVIDIA GPUs are not TF32's, torch's default, which rounds inputs to 10
    bits. New tensors are not filled in deterministic mode: it takes a pass over memory, and only
    matters to programs that read what they never wrote.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA refuses without it
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    of_new_tensors.fill_uninitialized_memory = False
    cudnn.benchmark = not deterministic
    cudnn.allow_tf32 = False


@contextmanager
def torch_settings_restored() -> Iterator[None]:
    """Restore torch's threads, deterministic mode and random generators after a block."""
    settle_threads()
    mode, filled = torch.get_deterministic_debug_mode(), of_new_tensors.fill_uninitialized_memory
    benchmark, tf32 = cudnn.benchmark, cudnn.allow_tf32
    with cpu_threads(torch.get_num_threads()), all_random_states_kept():
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            of_new_tensors.fill_uninitialized_memory = filled
            cudnn.benchmark, cudnn.allow_tf32 = benchmark, tf32

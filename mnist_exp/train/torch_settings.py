"""torch's global settings: those of a run, and their restoration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cudnn as cudnn_module

from mnist_exp.cpu.threads import cpu_threads, settle_threads
from mnist_exp.train.random_state import all_random_states_kept

# Type checkers do not know the attributes of these modules that are used below.
deterministic_settings: Any = torch.utils.deterministic
cudnn: Any = cudnn_module


def apply_torch_settings(deterministic: bool) -> None:
    """Refuse operations without a deterministic implementation, or allow them.

    Float32 convolutions on NVIDIA GPUs do not use TF32, torch's default there, which rounds inputs
    to 10 bits. torch does not fill new tensors in deterministic mode: this takes a pass over memory
    and only matters to programs that read what they never wrote.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA refuses without it
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    deterministic_settings.fill_uninitialized_memory = False
    cudnn.benchmark = not deterministic
    # torch.export reads this name of the setting, and fails after `conv.fp32_precision = "ieee"`
    cudnn.allow_tf32 = False


@contextmanager
def torch_settings_restored() -> Iterator[None]:
    """Restore torch's threads, random generators and what `apply_torch_settings` sets."""
    settle_threads()
    mode, benchmark = torch.get_deterministic_debug_mode(), cudnn.benchmark
    filled = deterministic_settings.fill_uninitialized_memory
    precisions = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    with cpu_threads(torch.get_num_threads()), all_random_states_kept():
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            deterministic_settings.fill_uninitialized_memory = filled
            cudnn.benchmark = benchmark
            cudnn.allow_tf32 = precisions == ("tf32", "tf32")  # torch's default; sets both
            cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = precisions

"""The device that trains, and its fastest precision."""

from __future__ import annotations

import torch

from mnist_exp.cpu.features import cpu_features
from mnist_exp.errors import UserError


def fast_precision(device: torch.device) -> str:
    """Return "bf16" where ``device`` has instructions for it, else "fp32"."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and any("bf16" in feature for feature in cpu_features())
    return "bf16" if fast else "fp32"


def compute_device(name: str) -> torch.device:
    """Return the torch device for ``runtime.device``: auto, cpu, cuda or mps.

    Raises
    ------
    UserError
        If torch finds no such device.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise UserError(
            f"runtime={name}: torch {torch.__version__} finds no such device here; "
            f"allowed is auto or one of: {', '.join(there)}."
        )
    return torch.device(name)

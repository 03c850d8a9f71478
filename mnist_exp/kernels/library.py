"""Which build of the kernels there is, and whether it can be used."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.hardware import cpu_flags
from mnist_exp.kernels.functions import Kernels

VARIABLE = "MNIST_EXP_KERNELS"
# What the processor must have for each build, as Linux names it; the faster build first.
BUILDS = {
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "bmi2", "popcnt"),
    "avx2": ("avx2", "fma"),
}


@cache
def compiled() -> Kernels | None:
    """Return the fastest build that is installed and that this processor can run, if any.

    Raises
    ------
    UserError
        If the environment variable ``MNIST_EXP_KERNELS`` is not "torch", "compiled" or empty, or
        is "compiled" and there are none.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "torch", "compiled"):
        raise UserError(
            f"{VARIABLE}={wanted}: allowed are torch and compiled; unset it to take the compiled "
            "kernels where there are any."
        )
    if wanted == "torch":
        return None
    paths = builds()
    if paths:
        return Kernels(*next(iter(paths.items())))
    if wanted == "compiled":
        raise UserError(
            f"{VARIABLE}=compiled: there are no compiled kernels for this processor. They need "
            "x86-64 with AVX2, Linux, and a C compiler when the package is installed; unset the "
            "variable to let torch do the work."
        )
    return None


def builds() -> dict[str, str]:
    """Return the path of each build that is installed and that runs here, the fastest first."""
    specs = {build: find_spec(f"{__package__}._{build}") for build in BUILDS}
    return {
        build: spec.origin
        for build, spec in specs.items()
        if spec is not None and spec.origin and cpu_flags().issuperset(BUILDS[build])
    }


def description(device: torch.device) -> str:
    """Say what runs the inner loops on ``device``: "compiled (avx512)", for example, or "torch"."""
    kernels = compiled() if device.type == "cpu" else None
    return "torch" if kernels is None else f"compiled ({kernels.build})"


def kernels_for(*tensors: Tensor) -> Kernels | None:
    """Return the compiled kernels if there are any and they can work on all of ``tensors``."""
    kernels = compiled()
    if kernels is None or not all(map(_is_plain, tensors)):
        return None
    return kernels


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
    )


def are_labels(tensor: Tensor) -> bool:
    """Tell whether a tensor is such as the kernels take for labels: int64 [B] on the CPU."""
    return (
        tensor.dtype is torch.int64
        and tensor.ndim == 1
        and tensor.is_cpu
        and tensor.is_contiguous()
    )

"""Choice of a build of the kernels."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from mnist_exp.cpu.features import cpu_flags
from mnist_exp.cpu.kernels.boundary import are_plain
from mnist_exp.cpu.kernels.functions import Kernels
from mnist_exp.errors import UserError

VARIABLE = "MNIST_EXP_KERNELS"
# Instruction sets each build needs, by their Linux names; fastest build first.
BUILDS = {
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "bmi2", "popcnt"),
    "avx2": ("avx2", "fma"),
}


@cache
def compiled() -> Kernels | None:
    """Return the build named by ``MNIST_EXP_KERNELS``, or the fastest; None for torch.

    Raises
    ------
    UserError
        If the variable is invalid, or names a build that cannot run here.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "torch", "compiled", *BUILDS):
        raise UserError(
            f"{VARIABLE}={wanted}: allowed are torch, compiled, {' and '.join(BUILDS)}; unset it "
            "to use the fastest available build."
        )
    if wanted == "torch":
        return None
    paths = builds()
    if wanted not in ("", "compiled", *paths) or (wanted == "compiled" and not paths):
        raise UserError(
            f"{VARIABLE}={wanted}: not available; {_there(paths)}. Unset the variable to use the "
            "fastest available build."
        )
    build = wanted if wanted in paths else next(iter(paths), None)
    return None if build is None else Kernels(build, paths[build])


def _there(paths: dict[str, str]) -> str:
    if paths:
        return f"this processor can run {' and '.join(paths)}"
    return f"there are no compiled kernels: {_why_none()}"


def _why_none() -> str:
    if not cpu_flags().issuperset(BUILDS["avx2"]):
        return "they need Linux on an x86-64 processor with AVX2"
    return "they need a C compiler when the package is installed"


def absence(device: torch.device) -> str | None:
    """Return a sentence on why no compiled kernels train on ``device``; None where they do.

    Also None on a GPU and with ``MNIST_EXP_KERNELS=torch``, where none are expected.
    """
    if device.type != "cpu" or os.environ.get(VARIABLE) == "torch" or compiled() is not None:
        return None
    return f"no compiled kernels: {_why_none()}; training runs on torch's operations"


def builds() -> dict[str, str]:
    """Return the path of each installed build that runs here, fastest first."""
    specs = {build: find_spec(f"{__package__}._{build}") for build in BUILDS}
    return {
        build: spec.origin
        for build, spec in specs.items()
        if spec is not None and spec.origin and cpu_flags().issuperset(BUILDS[build])
    }


def description(device: torch.device) -> str:
    """Return what runs the inner loops on ``device``: "torch" or, say, "compiled (avx512)"."""
    kernels = compiled() if device.type == "cpu" else None
    return "torch" if kernels is None else f"compiled ({kernels.build})"


def kernels_for(*tensors: Tensor) -> Kernels | None:
    """Return the compiled kernels, or None if unavailable or a tensor is not plain float32.

    Does not check whether autograd would record an operation on the tensors.
    """
    kernels = compiled()
    return kernels if kernels is not None and are_plain(*tensors) else None

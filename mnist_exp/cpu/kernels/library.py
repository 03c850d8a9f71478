"""Which build of the kernels there is, and whether it can be used."""

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
# What the processor must have for each build, as Linux names it; the faster build first.
BUILDS = {
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "bmi2", "popcnt"),
    "avx2": ("avx2", "fma"),
}


@cache
def compiled() -> Kernels | None:
    """Return the build that ``MNIST_EXP_KERNELS`` names, or else the fastest that runs here.

    Raises
    ------
    UserError
        If the variable names none, or one that is not there.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "torch", "compiled", *BUILDS):
        raise UserError(
            f"{VARIABLE}={wanted}: allowed are torch, compiled, {' and '.join(BUILDS)}; unset it "
            "to take the fastest build there is."
        )
    if wanted == "torch":
        return None
    paths = builds()
    if wanted not in ("", "compiled", *paths) or (wanted == "compiled" and not paths):
        raise UserError(
            f"{VARIABLE}={wanted}: it is not there; {_there(paths)}. Unset the variable to take "
            "the fastest build there is."
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
    """Say in a sentence why no compiled kernels train on ``device``; None where they do.

    Neither do they on a GPU, or where ``MNIST_EXP_KERNELS=torch`` asks for none, but that needs no
    sentence.
    """
    if device.type != "cpu" or os.environ.get(VARIABLE) == "torch" or compiled() is not None:
        return None
    return f"no compiled kernels: {_why_none()}; training runs on torch's operations"


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
    """Return the compiled kernels if there are any and float32 ``tensors`` are as they need them.

    Whether autograd would record an operation on them is for the caller to know.
    """
    kernels = compiled()
    return kernels if kernels is not None and are_plain(*tensors) else None

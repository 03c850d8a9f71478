"""Builds of the compiled kernels for tests to select, with "torch" for torch's operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mnist_exp.cpu.kernels import library

COMPILED = list(library.builds())  # empty without a C compiler, or on another processor


@contextmanager
def using(build: str) -> Iterator[None]:
    """Use a build of the kernels, or "torch", within the block."""
    kernels = None if build == "torch" else library.Kernels(build, library.builds()[build])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "compiled", lambda: kernels)
        yield

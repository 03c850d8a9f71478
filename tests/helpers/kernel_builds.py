"""The builds of the compiled kernels that tests go through, torch's own operations among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mnist_exp.cpu.kernels import library

COMPILED = list(library.builds())  # none without a C compiler, or on another processor


@contextmanager
def using(build: str) -> Iterator[None]:
    """Let a build, or "torch", do the work in a block."""
    kernels = None if build == "torch" else library.Kernels(build, library.builds()[build])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "compiled", lambda: kernels)
        yield

"""Train small networks on MNIST under hardware limits.

``import mnist_exp`` stays light: heavy packages load on first use.
"""

import sys
from typing import Any

from mnist_exp._moved import OldNames
from mnist_exp._version import __version__

__all__ = ["PyTorchNNWrapper", "__version__"]

if not any(type(finder).__name__ == OldNames.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, OldNames())


def __getattr__(name: str) -> Any:
    if name == "PyTorchNNWrapper":
        from mnist_exp.sklearn import PyTorchNNWrapper

        return PyTorchNNWrapper
    raise AttributeError(f"module 'mnist_exp' has no attribute {name!r}")

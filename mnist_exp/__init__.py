"""Train small networks on MNIST under hardware limits.

Heavy packages load on first use of a name, never on ``import mnist_exp``.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["PyTorchNNWrapper", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "PyTorchNNWrapper":
        from mnist_exp.sklearn import PyTorchNNWrapper

        return PyTorchNNWrapper
    raise AttributeError(f"module 'mnist_exp' has no attribute {name!r}")

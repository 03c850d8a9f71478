"""Train small networks on MNIST under hardware limits.

``import mnist_exp`` stays light: heavy packages load on first use.
"""

from __future__ import annotations

import importlib
import sys

from mnist_exp._moved import OldNames
from mnist_exp._version import __version__

TYPE_CHECKING = False  # typing takes milliseconds to load
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "PyTorchNNWrapper",
    "__version__",
    "evaluate_device",
    "load_run",
    "load_sweep",
    "run_experiment",
]

# What is imported on first use, and the module that has it.
_LAZY = {
    "PyTorchNNWrapper": "mnist_exp.sklearn",
    "evaluate_device": "mnist_exp.app.device_evaluation",
    "load_run": "mnist_exp.app.runs",
    "load_sweep": "mnist_exp.app.loaded_sweep",
    "run_experiment": "mnist_exp.app.python_run",
}

if not any(type(finder).__name__ == OldNames.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, OldNames())


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mnist_exp' has no attribute {name!r}")

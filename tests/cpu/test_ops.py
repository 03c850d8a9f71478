"""Other rooms reach the kernels only through `mnist_exp.cpu.ops`."""

from __future__ import annotations

import ast
from pathlib import Path

import mnist_exp

PACKAGE = Path(mnist_exp.__file__).parent
# Rooms that may import kernels; _moved.py lists them as old module names.
INSIDE = ("cpu", "train/backprop", "_moved.py")


def test_no_other_room_imports_kernels() -> None:
    askers = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if any(relative.is_relative_to(room) for room in INSIDE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            askers += [
                f"{relative}:{node.lineno} imports {name}"
                for name in names
                if name.startswith("mnist_exp.cpu.kernels") or name.endswith(".kernels_for")
            ]
    assert askers == []

"""Rooms import only rooms on lower floors, so imports have no cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mnist_exp

PACKAGE = Path(mnist_exp.__file__).parent
# From bottom to top. A room imports rooms of lower floors, never another of its own floor.
FLOORS = (
    {"errors", "terminal", "wording", "interruption", "_version", "_moved"},
    {"files", "cpu"},
    {"schema"},
    {"data", "models"},
    {"optim", "device", "cv"},
    {"train"},
    {"run"},
    {"plots"},
    {"gradients", "callbacks", "trackers"},
    {"report"},
    {"experiment"},
    {"sklearn"},
    {"app"},
    {"__init__", "__main__"},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and room of each import, including those in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = (
                [f"{module}.{a.name}" for a in node.names] if module == "mnist_exp" else [module]
            )
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "mnist_exp" and rest:
                yield node.lineno, rest.partition(".")[0]


def test_every_room_stands_on_a_floor() -> None:
    assert {room for room, _ in modules()} == set(HEIGHT)


def test_no_module_imports_a_room_above_or_beside_it() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)}:{line} imports {other}"
        for room, path in modules()
        for line, other in imported_rooms(path)
        if other != room and HEIGHT[other] >= HEIGHT[room]
    ]
    assert upward == []


def test_every_folder_says_what_lives_in_it_and_what_it_may_import() -> None:
    folders = {path.parent for _, path in modules()}
    for folder in folders:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder.relative_to(PACKAGE)}/__init__.py has no docstring"

"""Rooms import only rooms on lower floors, so imports have no cycles."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
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


@cache
def imports_in(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a file, also those in functions and for type checkers."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and room of each import."""
    for node in imports_in(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            module = node.module or ""
            names = (
                [f"{module}.{a.name}" for a in node.names] if module == "mnist_exp" else [module]
            )
        for name in names:
            package, _, rest = name.partition(".")
            if package == "mnist_exp" and rest:
                yield node.lineno, rest.partition(".")[0]


def imported_modules(path: Path, known: Collection[str]) -> Iterator[str]:
    """Yield each known module that a file imports."""
    for node in imports_in(path):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                name = submodule if submodule in known else str(node.module)
                if name in known:
                    yield name


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


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {
        ".".join(("mnist_exp", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for _, path in modules()
    }
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    imports = {name: {*imported_modules(path, paths)} for name, path in paths.items()}
    imports["mnist_exp.sklearn.from_run"].remove(
        "mnist_exp.sklearn"
    )  # for type checkers: its class
    TopologicalSorter(imports).prepare()  # raises CycleError, which names them


def test_every_folder_says_what_lives_in_it_and_what_it_may_import() -> None:
    folders = {path.parent for _, path in modules()}
    for folder in folders:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder.relative_to(PACKAGE)}/__init__.py has no docstring"

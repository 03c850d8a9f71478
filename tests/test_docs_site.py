"""The site: what holds without building it. ``make docs`` builds it, with warnings as errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from mnist_exp import models
from tests.helpers.markdown import PAGES, REPOSITORY, Block, blocks

QUOTATIONS = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.quoted is not None
]
GENERATED = {"readme.md", "gallery.md", "notebooks/", "api/"}  # by docs/site


@pytest.mark.parametrize("block", QUOTATIONS)
def test_quoted_lines_are_in_the_function_that_they_name(block: Block) -> None:
    assert block.quoted is not None
    path, name = block.quoted
    lines = block.text.splitlines()[1:]
    source = (REPOSITORY / path).read_text()
    assert any(lines in parts for parts in windows(source, name, len(lines))), lines


def windows(source: str, name: str, size: int) -> Iterator[list[list[str]]]:
    """Yield, for each function or class of this name, its runs of ``size`` lines, dedented."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            start, end = node.lineno - 1, node.end_lineno or 0
            parts = ("\n".join(lines[at : at + size]) for at in range(start, end - size + 1))
            yield [dedent(part).splitlines() for part in parts]


def test_the_navigation_lists_every_page_once() -> None:
    listed = list(leaves(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    pages = [page.name for page in PAGES if page.parent.name == "docs"]
    assert sorted(listed) == sorted([*pages, *GENERATED])


def leaves(entries: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from leaves(entry)


def test_nothing_of_the_site_comes_from_elsewhere() -> None:
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    files = [*(REPOSITORY / "docs" / "assets").iterdir(), REPOSITORY / "mkdocs.yml"]
    assert [path.name for path in files if "://" in path.read_text().replace("file://", "")] == []


def test_parameters_of_the_theory_page_are_those_of_the_network() -> None:
    network = models.MLP(hidden_sizes=(300, 300))
    text = Path(REPOSITORY / "docs" / "theory.md").read_text()
    layers = (network.network[index] for index in (0, 2, 4))
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert all(f"| {count:,} |" in text for count in [*counts, sum(counts)])

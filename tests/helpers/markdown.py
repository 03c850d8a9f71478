"""Extract code blocks, inline code, links and anchors from Markdown pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block: language, text, line number, and the reason if it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None

    @property
    def file_name(self) -> str | None:
        """The file named at the block's top, as in ``# my_conf/model/deep.yaml``."""
        found = re.match(r"(?:# @package _global_\n)?# ([\w/]+\.(?:py|yaml))\n", self.text)
        return None if found is None else found[1]

    @property
    def quoted(self) -> tuple[str, str] | None:
        """File and function or class of a quotation, ``# mnist_exp/train/loop.py: train``."""
        found = re.match(r"# (mnist_exp/[\w/]+\.py): (\w+)\n", self.text)
        return None if found is None else (found[1], found[2])

    @property
    def commands(self) -> list[str]:
        """The lines of a bash block, without comments."""
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in self.text.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        above = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        excuse = NOT_RUN.fullmatch(above)
        line = text.count("\n", 0, found.start()) + 2
        yield Block(found[1], found[2], line, None if excuse is None else excuse[1])


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """Return the inline code of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: Path) -> list[str]:
    """Return the targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors that code hosts generate for a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}

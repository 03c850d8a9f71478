"""Notebooks as pages, with the outputs that they carry; nothing is executed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FENCE = "~~~~~~~~"
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal


def notebooks(config: MkDocsConfig) -> list[Path]:
    """Return the notebooks in ``docs/notebooks``, sorted by name."""
    return sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb"))


def on_config(config: MkDocsConfig) -> None:
    """Put the notebooks in place of ``notebooks/`` in the navigation; without any, remove it."""
    nav = config.nav or []
    (section,) = (entry for entry in nav if "Notebooks" in entry)
    section["Notebooks"] = [f"notebooks/{path.stem}.md" for path in notebooks(config)]
    if not section["Notebooks"]:
        nav.remove(section)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for each notebook, and its pictures."""
    for path in notebooks(config):
        parts = []
        for index, cell in enumerate(json.loads(path.read_text())["cells"]):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(source)
            elif cell["cell_type"] == "code":
                parts.append(f"{FENCE}python\n{source}\n{FENCE}")
                parts += shown(cell["outputs"], f"{path.stem}-{index}", files, config)
        parts.append(f"[Download the notebook]({path.name})\n")
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content="\n\n".join(parts)))


def shown(
    outputs: list[dict[str, Any]], name: str, files: Files, config: MkDocsConfig
) -> Iterator[str]:
    """Yield a cell's outputs as Markdown; pictures become files of the site, from ``name``."""
    for index, output in enumerate(outputs):
        data = output.get("data", {})
        text = data.get("text/plain", output.get("text", output.get("traceback", "")))
        if "image/png" in data:
            picture = f"{name}-{index}.png"
            content = base64.b64decode("".join(data["image/png"]))
            files.append(File.generated(config, f"notebooks/{picture}", content=content))
            yield f"![Output of the cell above]({picture})"
        elif "text/html" in data:
            table = re.sub(r"<style.*?</style>|\n\s*", "", "".join(data["text/html"]), flags=re.S)
            table = re.sub(r"<table[^>]*>", "<table>", table)  # in the style of the site
            yield f'<div class="output" markdown="0">{table}</div>'
        elif text:
            yield f"{FENCE}{{.text .output}}\n{ESCAPES.sub('', ''.join(text)).rstrip()}\n{FENCE}"

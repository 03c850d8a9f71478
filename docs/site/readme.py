"""The README as a page of the site, for its tables of models and options."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add ``readme.md``, its links written as from ``docs/``."""
    text = (Path(config.docs_dir).parent / "README.md").read_text()
    text = re.sub(r"\]\((?!https:|#|docs/)", "](../", text).replace("](docs/", "](")
    files.append(File.generated(config, "readme.md", content=text))

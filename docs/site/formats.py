"""Fenced formulas and drawings, made into HTML at build time; anchors as code hosts make them."""

from __future__ import annotations

import html
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from pymdownx.slugs import slugify


def on_config(config: MkDocsConfig) -> None:
    """Register the formats, which YAML could only name by tags that run code."""
    fences = [
        {"name": "math", "class": "math", "format": formula},
        {"name": "mermaid", "class": "floors", "format": floors},
    ]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return a LaTeX formula as MathML, which browsers draw without a script."""
    return f'<div class="math">{convert(source.strip(), display="block")}</div>'


def floors(source: str, *_: Any, **__: Any) -> str:
    """Return a flowchart of floors, each line ``a & b --> c & d`` from a floor to the next.

    Material would load mermaid from a CDN for it, three megabytes.
    """
    head, *lines = source.strip().splitlines()
    rows: list[list[str]] = []
    for line in lines:
        upper, lower = ([name.strip() for name in side.split("&")] for side in line.split("-->"))
        if rows and rows[-1] != upper:
            raise PluginError(f"mermaid: {line.strip()}: does not start at {' & '.join(rows[-1])}")
        rows += [lower] if rows else [upper, lower]
    if head != "flowchart TD" or not rows:
        raise PluginError(f"mermaid: {head}: only a flowchart TD of floors can be drawn")
    boxes = ("".join(f"<li>{html.escape(name)}</li>" for name in row) for row in rows)
    return '<div class="floors">' + "".join(f"<ul>{row}</ul>" for row in boxes) + "</div>"

"""Fenced formulas and drawings, made into HTML at build time; anchors as code hosts make them."""

from __future__ import annotations

import html
import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from pymdownx.slugs import slugify

POINTS = 12  # of the letters in a formula, which the page shows at the size of its text
INK = "#123456"  # to be found and replaced


def on_config(config: MkDocsConfig) -> None:
    """Register the formats, which YAML could only name by tags that run code."""
    fences = [
        {"name": "math", "class": "math", "format": formula},
        {"name": "mermaid", "class": "floors", "format": floors},
    ]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return a LaTeX formula as SVG in the colour of the text.

    As MathML it would need a mathematical font, which not every reader has.
    """
    latex, drawing = " ".join(source.split()), io.StringIO()
    with mpl.rc_context(
        {"svg.fonttype": "path", "mathtext.fontset": "cm", "savefig.transparent": True}
    ):
        prop = FontProperties(size=POINTS)
        text = latex.replace(r"\frac", r"\dfrac")  # as LaTeX draws it where a line is its own
        math_to_image(f"${text}$", drawing, prop=prop, format="svg", color=INK)
    found = re.search(
        r'<svg .*?width="([\d.]+)pt" height="([\d.]+)pt".*?>', drawing.getvalue(), re.S
    )
    if found is None:
        raise PluginError(f"math: {latex}: cannot be drawn")
    width, height = (float(number) for number in found.groups())
    box = f'viewBox="0 0 {width} {height}" style="width: {width / POINTS}em"'
    paths = drawing.getvalue()[found.end() :].replace(INK, "currentColor")
    paths = re.sub(r"<metadata>.*?</metadata>|\n\s*", " ", paths, flags=re.S)
    label = html.escape(latex, quote=True)
    return f'<div class="math"><svg role="img" aria-label="{label}" {box}>{paths}</div>'


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

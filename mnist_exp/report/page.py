"""Assemble a page: template, styles, scripts and data in one file that asks for no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mnist_exp._version import __version__
from mnist_exp.files.atomic import finite, write_atomic

HERE = Path(__file__).parent
LIBRARIES = ("vega", "vega-lite", "vega-embed")
# what JSON in a script element must not contain: the end of the element, or a comment's begin
UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}

Chart = dict[str, Any]  # a Vega-Lite specification


def render(
    template: str,
    title: str,
    charts: Mapping[str, Chart],
    data: Mapping[str, Any],
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    **values: Any,
) -> str:
    """Return the HTML of a page.

    Parameters
    ----------
    template : str
        File in ``templates``, which extends ``base.html``.
    title : str
        Of the page.
    charts : dict
        Vega-Lite specifications by name; ``chart(name)`` in the template places one.
    data : dict
        JSON values by name, which the page's scripts read; numbers that are not finite are null.
    scripts, styles : sequence of str
        Files in ``static`` that the page needs besides ``page.js`` and ``page.css``.
    **values
        Everything else that the template names; text is escaped.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            version=__version__,
            charts={name: embedded_json(spec) for name, spec in charts.items()},
            data={name: embedded_json(value) for name, value in data.items()},
            libraries=[library(name) for name in LIBRARIES] if charts else [],
            style=Markup("").join(Markup(static(name)) for name in ("page.css", *styles)),
            scripts=[Markup(static(name)) for name in ("page.js", *scripts)],
            **values,
        )
    )


def write_page(path: Path, html: str) -> None:
    """Replace the file of a page; names that are no valid Unicode are written with ``?``."""
    write_atomic(path, html.encode(errors="replace"))


def embedded_json(value: Any) -> Markup:
    """Return JSON for a ``<script type="application/json">`` element, safe against its end."""
    text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(UNSAFE))


@lru_cache
def library(name: str) -> Markup:
    """Return a chart library's script, without its reference to a source map."""
    text = (HERE / "libraries" / f"{name}.min.js").read_text(encoding="utf-8")
    return Markup(text.partition("//# sourceMappingURL=")[0])


@lru_cache
def static(name: str) -> str:
    """Return a file of ``static``."""
    return (HERE / "static" / name).read_text(encoding="utf-8")


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

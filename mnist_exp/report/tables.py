"""Tables of the pages, as data for ``static/table.js``, which sorts, filters and draws them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_exp.run.over_seeds import Spread
from mnist_exp.run.table_formats import Column, shown_cells

View = dict[str, Any]
DIGITS = 7  # of a number that is sorted and compared; the text beside it has those that people read
LONG = ("error",)  # columns of sentences, which wrap


def view(name: str, columns: Sequence[Column], **links: Sequence[str | None]) -> View:
    """Return a view of a table; a page may switch between several.

    Parameters
    ----------
    name : str
        Of the view, such as "each job".
    columns : sequence of Column
        Their names are what conditions of the filter call them. Texts that are numbers, such as
        settings as typed, compare as numbers.
    **links : sequence of str
        Address for each cell of a column; None: no link.
    """
    return {"name": name, "columns": [_column(column, links) for column in columns]}


def _column(column: Column, links: dict[str, Sequence[str | None]]) -> dict[str, Any]:
    numbers = [_number(value) for value in column.values]
    numeric = any(number is not None for number in numbers) and all(
        number is not None or not value or isinstance(value, Spread)
        for number, value in zip(numbers, column.values, strict=True)
    )
    return {
        "key": column.name.replace(" ", "_"),
        "title": (column.short or column.name) if column.short != "folds" else column.name,
        "over": column.over if column.spreads else "",
        "kind": "number" if numeric else "long" if column.name in LONG else "text",
        "texts": shown_cells(column),
        **({"numbers": numbers} if numeric else {}),
        **({"links": links[column.name]} if column.name in links else {}),
    }


def _number(value: Any) -> float | None:
    """Return what a cell is sorted by: the mean of a spread, the number of a text that is one."""
    if isinstance(value, Spread):
        value = value.mean
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(f"{float(value):.{DIGITS}g}")
    except ValueError:
        return None


def link(page: Path, start: Path) -> str | None:
    """Return the address of a page, relative to the directory ``start``; None if it is missing."""
    if not page.is_file():
        return None
    # quoted, and begun with a dot, so that no name of a directory makes another kind of address
    return "./" + quote(os.fsencode(Path(os.path.relpath(page, start)).as_posix()))

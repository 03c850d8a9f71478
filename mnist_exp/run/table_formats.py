"""A table as text for the terminal, CSV, Markdown or LaTeX: what each number is, in its heading."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_exp.run.over_seeds import Spread
from mnist_exp.run.text_table import Share, table_lines
from mnist_exp.terminal import printable

WIDEST = 60  # characters of a cell of text; the last column is shown in full


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        What the values are.
    values : sequence
        One per row: text, int, float, `Share`, `Spread`, or None for no value.
    over : str
        What statistics are over: "folds" or "seeds".
    short : str
        Heading on the terminal, unless that is the name.
    form : str
        How floats are written for people, as `format` takes it.
    """

    name: str
    values: Sequence[Any]
    over: str = ""
    short: str = ""
    form: str = ".4g"

    @property
    def spreads(self) -> bool:
        """Whether the values are means over seeds, or over folds of which any run has several."""
        return self.over == "seeds" or any(
            isinstance(value, Spread) and value.std is not None for value in self.values
        )

    @property
    def heading(self) -> str:
        """What the numbers of a printed table are: unit, mean and deviation of what."""
        means = (value.mean if isinstance(value, Spread) else value for value in self.values)
        unit = " (%)" if any(isinstance(mean, Share) for mean in means) else ""
        return f"{self.name}{unit}" + (f", mean ± sample std over {self.over}" * self.spreads)


def text_lines(columns: Sequence[Column]) -> list[str]:
    """Return the lines of a table for the terminal."""
    head = [column.short or column.name for column in columns]
    rows = _printed_rows(columns, " +- ", "%")
    return table_lines([head, *([*(c[:WIDEST] for c in row[:-1]), row[-1]] for row in rows)])


def csv_text(columns: Sequence[Column]) -> str:
    """Return a table as CSV: names with underscores, shares in [0, 1], mean and std apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    plain: list[tuple[str, list[Any]]] = []
    for column in columns:
        name = column.name.replace(" ", "_")
        if not column.spreads:
            plain.append((name, [v.mean if isinstance(v, Spread) else v for v in column.values]))
            continue
        parts = [v if isinstance(v, Spread) else Spread(None, None) for v in column.values]
        plain.append((f"mean_{name}_over_{column.over}", [part.mean for part in parts]))
        plain.append((f"std_{name}_over_{column.over}", [part.std for part in parts]))
    writer.writerow([printable(name) for name, _ in plain])
    for row in zip(*(values for _, values in plain), strict=True):
        writer.writerow(
            [printable(value) if isinstance(value, str) else _number(value) for value in row]
        )
    return text.getvalue()


def markdown_text(columns: Sequence[Column]) -> str:
    """Return a table as Markdown."""
    lines = [[column.heading for column in columns], *_printed_rows(columns)]
    lines = [[_markdown(cell) for cell in line] for line in lines]
    lines.insert(1, ["---:" if _is_numeric(column) else "---" for column in columns])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_text(columns: Sequence[Column]) -> str:
    r"""Return a table as LaTeX; needs ``\usepackage{booktabs}``."""
    alignment = "".join("r" if _is_numeric(column) else "l" for column in columns)
    heading, *rows = (
        " & ".join(map(_latex, line)) + r" \\"
        for line in ([column.heading for column in columns], *_printed_rows(columns))
    )
    lines = ["% \\usepackage{booktabs}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", heading]
    lines += [r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "".join(f"{line}\n" for line in lines)


FORMATS: dict[str, Callable[[Sequence[Column]], str]] = {
    "csv": csv_text, "markdown": markdown_text, "latex": latex_text,
}  # fmt: skip
LATEX = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}",
    "[": "{[}", "*": "{*}",  # arguments of the \\ before them
    "±": r"$\pm$",
}  # fmt: skip


def _printed_rows(
    columns: Sequence[Column], between: str = " ± ", percent: str = ""
) -> list[list[str]]:
    cells = (shown_cells(column, between, percent) for column in columns)
    return [[*row] for row in zip(*cells, strict=True)]


def _is_numeric(column: Column) -> bool:
    """Whether a column has values, none of which is text."""
    values = [value for value in column.values if value is not None]
    return bool(values) and not any(isinstance(value, str) for value in values)


def shown_cells(column: Column, between: str = " ± ", unit: str = "%") -> list[str]:
    """Format a column's values for people; shares in per cent, followed by ``unit``."""

    def shown(value: Any) -> str:
        if isinstance(value, Spread):
            return between.join(shown(part) for part in value if part is not None)
        if isinstance(value, Share):
            return f"{value:.2%}".replace("%", unit)
        if isinstance(value, float):
            return format(value, column.form)
        if isinstance(value, int):
            return f"{value:,}"
        return "" if value is None else printable(value)

    return [shown(value) for value in column.values]


def _number(value: Any) -> Any:
    """Return a number as Python writes it, a `Share` too."""
    return float(value) if isinstance(value, Share) else value


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _latex(text: str) -> str:
    escaped = "".join(LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{-}")  # which would be one long dash

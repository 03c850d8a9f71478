"""Tables as CSV, Markdown and LaTeX: nothing in a cell changes the table or its numbers."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st

from mnist_exp.run.over_seeds import Spread
from mnist_exp.run.table_formats import Column, csv_text, latex_text, markdown_text, text_lines
from mnist_exp.run.text_table import Share

TEXTS = st.lists(st.text(max_size=12), min_size=1, max_size=4)


def columns_of(texts: list[str]) -> list[Column]:
    return [Column("a|b_c", texts), Column("n", [*range(len(texts))])]


@given(TEXTS)
def test_any_text_is_one_cell_of_csv(texts: list[str]) -> None:
    head, *rows = csv.reader(io.StringIO(csv_text(columns_of(texts))))
    assert head == ["a|b_c", "n"]
    assert [row[1] for row in rows] == [str(n) for n in range(len(texts))]
    assert all(cell.isprintable() for row in rows for cell in row)
    printable = [text for text in texts if text.isprintable()]
    assert [row[0] for row in rows if row[0] in printable] or not printable


@given(TEXTS)
def test_any_text_is_one_cell_of_markdown(texts: list[str]) -> None:
    lines = markdown_text(columns_of(texts)).splitlines()
    assert len(lines) == len(texts) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


@given(TEXTS)
def test_any_text_is_one_cell_of_latex(texts: list[str]) -> None:
    lines = latex_text(columns_of(texts)).splitlines()
    rows = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(rows) == len(texts)
    for row in rows:
        cell = row.removesuffix(r" \\").rpartition(" & ")[0]
        plain = re.sub(r"\\text[a-z]+\{\}|\\symbol\{34\}|\\[&%$#_{}]|\$\\pm\$|\{[*[-]\}", "", cell)
        assert not re.search(r"[&%$#_{}~^\\<>|\"]|--|\A[*\[]", plain)


def test_numbers_are_whole_in_csv_and_say_what_they_are() -> None:
    spreads = [Spread(Share(0.98765432), Share(0.0123456)), Spread(Share(0.5), None)]
    columns = [
        Column("test accuracy", spreads, "folds"),
        Column("validation accuracy", [Share(0.25), None]),
        Column("seconds", [12345.678, 0.5], form=",.1f"),
    ]
    head, *rows = csv.reader(io.StringIO(csv_text(columns)))
    assert head[:3] == [
        "mean_test_accuracy_over_folds", "std_test_accuracy_over_folds", "validation_accuracy",
    ]  # fmt: skip
    assert rows == [["0.98765432", "0.0123456", "0.25", "12345.678"], ["0.5", "", "", "0.5"]]
    heading, _, first, second = markdown_text(columns).splitlines()
    assert heading == (
        "| test accuracy (%), mean ± sample std over folds | validation accuracy (%) | seconds |"
    )
    assert first == "| 98.77 ± 1.23 | 25.00 | 12,345.7 |"
    assert second == "| 50.00 |  | 0.5 |"
    assert text_lines(columns)[1].split("  ")[0] == "98.77% +- 1.23%"


def test_a_share_of_one_split_has_no_deviation_in_its_heading() -> None:
    column = Column("test accuracy", [Spread(Share(0.5), None)], "folds")
    assert csv_text([column]) == "test_accuracy\n0.5\n"
    assert column.heading == "test accuracy (%)"

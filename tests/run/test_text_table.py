"""Columns of text, and accuracies as people read them."""

from __future__ import annotations

from mnist_exp.run.text_table import shown_accuracy, table_lines


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("fold", "accuracy"), ("1", "98.01%"), ("10", "")]
    assert table_lines(rows) == ["fold  accuracy", "1     98.01%", "10"]
    assert table_lines(rows, str.rjust) == ["fold  accuracy", "   1    98.01%", "  10"]


def test_a_row_is_one_line_without_what_a_terminal_obeys() -> None:
    assert table_lines([("a\nb", "\x1b[2J"), ("c", "d")]) == [r"a\nb  \x1b[2J", "c     d"]


def test_an_accuracy_is_a_percentage_with_its_deviation() -> None:
    assert shown_accuracy(0.98012, 0.00123) == "98.01% +- 0.12%"
    assert shown_accuracy(0.98012) == "98.01%"
    assert shown_accuracy(None) == ""

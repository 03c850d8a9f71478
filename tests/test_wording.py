"""A number and its noun agree."""

from __future__ import annotations

import pytest

from mnist_exp.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (1.0, ("time",), "1 time"),
        (1000, ("thread",), "1,000 threads"),
        (1, ("batch", "batches"), "1 batch"),
        (2, ("batch", "batches"), "2 batches"),
    ],
)
def test_counted(number: float, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text

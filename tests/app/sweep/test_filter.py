"""``sweep.filter``: what it computes, and that nothing in it runs code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_exp.app.sweep.filter import LONGEST, JobFilter
from mnist_exp.errors import UserError

SETTINGS: dict[str, Any] = {
    "optimizer.lr_pos": 0.1,
    "optimizer.lr_neg": 0.2,
    "seed": 3,
    "model": "mlp",
    "threads": None,
    "plots.enabled": False,
    "model.hidden_sizes": [128, 64],
}


def keeps(text: str) -> bool:
    return JobFilter(text).keeps(SETTINGS.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "optimizer.lr_pos < optimizer.lr_neg",
        "0.05 < optimizer.lr_pos <= 0.1 and not seed != 3",
        "model in ('mlp', 'mlp100') and model not in ['cnn20k']",
        "optimizer.lr_neg / optimizer.lr_pos == 2 or nothing.like_it",
        "seed % 2 == 1 and seed // 2 == +1 and -seed + 5 - 2 * 1 == 0",
        "threads == null and threads == None and plots.enabled == false",
        "model.hidden_sizes == [128, 64] and 64 in model.hidden_sizes",
        " (not\nplots.enabled)",
        "'ml' in model",
    ],
)
def test_an_expression_of_settings_is_computed(text: str) -> None:
    assert keeps(text)
    assert not keeps(f"not ({text})")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("__import__('os').system('touch made')", r"__import__\('os'\)\.system\('touch made'\) is"),
        ("model.upper() == 'MLP'", r"model\.upper\(\) is not allowed; allowed are settings"),
        ("().__class__", r"\(\)\.__class__ is not allowed"),
        ("seed == 3 or [s for s in (1, 2)]", r"is not allowed"),
        ("(lambda: seed)", "is not allowed"),
        ("(seed := 4) == 4", "is not allowed"),
        ("f'{seed}' == '3'", "is not allowed"),
        ("model[0] == 'm'", "is not allowed"),
        ("9 ** 9 ** 9 > seed", r"9 \*\* 9 \*\* 9 is not allowed"),
        ("seed << 9 > 1", "is not allowed"),
        ("seed is 3", "is not allowed"),
        ("b'' == model", "is not allowed"),
        ("(1 if seed else 2) == 1", "is not allowed"),
        ("(*model, 1) == 1", "is not allowed"),
        ("seed = 3", r"cannot be read \(invalid syntax"),
        ("seed ==", r"cannot be read \(invalid syntax"),
        ("", "cannot be read"),
        ("(" * 300 + "seed", r"cannot be read \(too many nested parentheses"),
        ("1" * (LONGEST + 1), "has 1001 characters; allowed are 1000"),
        ("optimizer.lr_pos", r"optimizer\.lr_pos is 0\.1, neither true nor false"),
        ("model == 'mlp' or 'mlp100' == model or 1", "seed"),
        ("model == 'cnn20k' or 'mlp100'", "'mlp100' is 'mlp100', neither true nor false"),
        ("threads < 3", "None and 3 cannot be compared"),
        ("seed in seed", "3 and 3 cannot be compared"),
        ("'a' * 9 == 'a'", "'a' \\* 9, of 'a' and 9: computes with numbers alone"),
        ("-model == 1", "computes with numbers alone"),
        ("-" * 400 + "1 < 2", "is nested too deeply"),
        ("seed / 0 > 1", "division by zero"),
        ("seed / 0.0 > 1", "division by zero"),
    ],
)
def test_anything_else_is_refused(text: str, told: str) -> None:
    if told == "seed":
        assert keeps(text)  # the rest is not looked at
        return
    with pytest.raises(UserError, match=f"^sweep.filter.*{told}"):
        keeps(text)


PIECES = ["seed", "model", "'mlp'", "3", "0.1", "1e999", "(", ")", "[", "]", ",", " and ", "not "]
PIECES += ["<", "==", " in ", "+", "-", "*", "/", "%", ".", "lambda:", "{", "}", "**", "\n", "null"]


@given(text=st.text() | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_every_text_is_computed_or_refused(text: str) -> None:
    try:
        found = JobFilter(text).keeps(lambda key: SETTINGS.get(key, key))
    except UserError:
        return
    assert isinstance(found, bool)

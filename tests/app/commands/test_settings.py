"""The command that describes keys, and the page it writes."""

from __future__ import annotations

import pytest

from mnist_exp.app.commands import run
from mnist_exp.app.commands.settings import entries
from tests.helpers.markdown import REPOSITORY


def test_the_page_is_what_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("settings", "--markdown") == 0
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    written = capsys.readouterr().out
    assert page == written, "write it anew: python -m mnist_exp settings --markdown"


def test_every_key_has_a_rule_and_almost_every_one_a_meaning() -> None:
    """Names need none, and a value of torchvision's is its own."""
    found = entries()
    assert len({entry.key for entry in found}) > 120
    assert {entry.key for entry in found if not entry.allowed} == set()
    assert {entry.key for entry in found if not entry.meaning} == {"model.name", "data.name"}


def test_a_key_is_described_with_the_options_that_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("settings", "cv.n_repeats", "training.averaging") == 0
    assert capsys.readouterr().out.splitlines() == [
        "training.averaging=null",
        "    decay of an exponential moving average of the weights; null: none",
        "    allowed: null or a number, above 0 and below 1",
        "    0.999 with experiment=mlp100_augmented, mlp300_augmented, mlp300_noise; "
        "0.99 with model=cnn20k",
        "cv.n_repeats",
        "    repetitions, each shuffled anew",
        "    allowed: a whole number of at least 1",
        "    2 with cv=repeated_stratified_kfold",
    ]


def test_a_key_that_does_not_exist_is_answered_with_one_that_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("settings", "lr") == 2
    assert (
        capsys.readouterr().err == "error: lr: there is no such key; did you mean optimizer.lr?\n"
    )

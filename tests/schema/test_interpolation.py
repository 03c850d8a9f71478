"""Text that an interpolation gave is read as YAML where its key takes no such text."""

from __future__ import annotations

from typing import Any

import pytest

from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import training_config, with_values
from mnist_exp.schema import check, resolved_values
from tests.conftest import Compose


@pytest.mark.parametrize(
    ("override", "text", "key", "value"),
    [
        ("seed=${oc.env:MINE}", "5", "seed", 5),
        ("training.label_smoothing=${oc.env:MINE}", "1e-3", "label_smoothing", 0.001),
        ("training.averaging=${oc.env:MINE}", "null", "averaging", None),
        ("deterministic=${oc.env:MINE}", "false", "deterministic", False),
        ("data.classes=${oc.env:MINE}", "[3,5]", "classes", [3, 5]),
        ("data.classes=[3,'${oc.env:MINE}']", "5", "classes", [3, 5]),
        ("model.weights=${oc.env:MINE}", "2026", "weights", "2026"),  # a path is text
        ("seed=${extra.mine}", "5", "seed", 5),
        ("training.epochs=${oc.env:MINE}", "a: [", "epochs", "a: ["),  # refused by its rule
    ],
)
def test_a_number_from_the_environment_is_a_number(
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    text: str,
    key: str,
    value: Any,
) -> None:
    monkeypatch.setenv("MINE", text)
    config = compose_config(override, "+extra.mine=${oc.env:MINE}")
    group = override.partition("=")[0].rpartition(".")[0]
    found: Any = resolved_values(config)
    assert (found[group] if group else found)[key] == value
    resolved = with_values(config)
    monkeypatch.delenv("MINE")  # no longer needed
    assert training_config(resolved)["seed"] == resolved.seed == found["seed"]


def test_text_that_was_typed_stays_text(compose_config: Compose) -> None:
    with pytest.raises(UserError, match="seed=5: allowed is a whole number"):
        check(compose_config("seed='5'"))
    assert with_values(compose_config(r"model.name='\${a}'")).model.name == "${a}"

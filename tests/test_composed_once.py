"""What tests compose is what Hydra composes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from tests.conftest import composed_by_hydra, composed_once


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp100", "training.epochs=2", "optimizer=adamw", "optimizer.lr=1", "seed=3"),
        ("+extra.width=3", "constraint=memristor", "~optimizer.lr", "hydra.run.dir=x"),
        ("+callbacks.mine={_target_: my.Class}", "callbacks.mine.n=2", "++callbacks.mine.k=a"),
        ("~optimizer", "+metrics=top2", "experiment=lr_asymmetry", "cv.n_splits=3"),
        ("model={_target_: my.net}", "model.width=3"),
        ("model=mlp", "model.hidden_sizes=[3,4]", "data.root=${oc.env:HOME}", "seed=null"),
        ("data=idx", "data.root=a b"),
        ("training.epoch=2",),
        ("+training.epochs=2",),
        ("~training.epoch",),
        ("model=mlpp",),
        ("training.epochs=1,2",),
        ("constraint=clip,memristor", "seed=3"),
        ("training.epochs@here=1",),
        ("seed",),
        ("model={",),
    ],
)
def test_options_are_chosen_once_and_give_what_hydra_composes(
    overrides: tuple[str, ...],
) -> None:
    def result(compose: Callable[[], DictConfig]) -> tuple[str, type | None]:
        try:
            return OmegaConf.to_yaml(compose()), None
        except (HydraException, ValueError) as error:
            return re.sub(r"index: \d", "", str(error)), type(error)

    expected = result(lambda: composed_by_hydra(overrides))
    assert result(lambda: composed_once(*overrides)) == expected
    assert result(lambda: composed_once(*overrides)) == expected  # nothing kept was changed

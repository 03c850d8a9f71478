"""Whether a command is a run or a sweep is known without composing, or found as Hydra finds it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from mnist_exp.app import hydra_app, launch_mode
from mnist_exp.files.shipped_config import config_directory

SWEPT = "# @package _global_\nhydra: {mode: MULTIRUN}\n"


@pytest.mark.parametrize(
    ("arguments", "launched", "composed"),
    [
        ("model=mlp hydra.run.dir=runs/1", "run", 0),
        ("-m seed=1,2", "multirun", 0),
        ("experiment=memristor", "run", 1),
        ("experiment=lr_asymmetry", "multirun", 1),
        ("seed=1,2 hydra.mode=MULTIRUN", "multirun", 1),
        ("seed=1,2 ++hydra.mode=MULTIRUN", "multirun", 1),
        ("seed=1,2 +hydra={mode:MULTIRUN}", "multirun", 1),
        ("hydra/sweeper=grid", "run", 1),
        ("--config-dir own debug=swept", "multirun", 1),
        ("--config-dir own seed=1", "run", 1),
        ("debug=swept hydra.searchpath=[file://own]", "multirun", 1),
    ],
)
def test_a_sweep_is_one_as_hydra_says_and_only_what_may_set_the_mode_is_composed_for_it(
    arguments: str, launched: str, composed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/debug").mkdir(parents=True)
    (tmp_path / "own/debug/swept.yaml").write_text(SWEPT)
    words = [str(tmp_path / word) if word == "own" else word for word in arguments.split()]
    found: list[str] = []
    compose = Hydra.compose_config

    def counted(self: Hydra, *given: Any, **named: Any) -> DictConfig:
        found.append("composed")
        return compose(self, *given, **named)

    monkeypatch.setattr(Hydra, "compose_config", counted)
    for name in ("run", "multirun"):
        monkeypatch.setattr(Hydra, name, lambda *_, name=name, **__: found.append(name))
    monkeypatch.setattr(sys, "argv", ["mnist_exp", *words])
    hydra_app.main()
    assert found == ["composed"] * composed + [launched]


def test_no_shipped_option_but_a_preset_sets_the_mode() -> None:
    files = [
        path for path in config_directory().rglob("*.yaml") if path.parent.name != "experiment"
    ]
    assert len(files) > 100
    configs = [OmegaConf.load(path) for path in files]
    assert [c for c in configs if OmegaConf.select(c, "hydra.mode") is not None] == []
    assert launch_mode.may_set_a_mode(["model=mlp", "+experiment=lr_search"])

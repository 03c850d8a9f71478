"""The settings of a run, read fast, are those that the run was made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp.run import yaml_files
from mnist_exp.run.run_settings import as_text, read_settings
from mnist_exp.run.saved_config import save_config
from tests.conftest import Compose


@pytest.mark.parametrize("loader", ["LOADER", "SafeLoader"])
def test_fast_reading_gives_what_omegaconf_saved(
    tmp_path: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch, loader: str
) -> None:
    if loader == "SafeLoader":  # of a PyYAML without libyaml
        monkeypatch.setattr(yaml_files, "LOADER", yaml_files.yaml.SafeLoader)
    config = compose_config(
        "model=cnn20k", "constraint=memristor", "+extra={a: '1e-3', b: '2026-11-26', c: 1e-7}"
    )
    save_config(tmp_path, config)
    found = read_settings(tmp_path)
    saved: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert found.problem == ""
    assert found.config == saved
    assert found.values["constraint.retention"] == 1e-5
    assert found.values["extra.a"] == "1e-3"


def test_what_changes_no_result_does_not_tell_runs_apart(
    tmp_path: Path, compose_config: Compose
) -> None:
    def effective(*overrides: str) -> dict[str, str]:
        save_config(tmp_path, compose_config("model=mlp100", *overrides))
        return read_settings(tmp_path).effective

    plain = effective()
    assert plain["seed"] == "0"
    assert effective("plots.enabled=false", "verbose=true", "cv.n_jobs=3", "tracker=csv") == plain
    assert effective("optimizer.lr=0.3") != plain


def test_values_are_written_as_on_the_command_line() -> None:
    values = [None, True, 1e-5, 3, "a b", [1, [2.5, None]]]
    assert [as_text(value) for value in values] == [
        "null", "true", "1e-05", "3", "a b", "[1,[2.5,null]]",
    ]  # fmt: skip


def test_a_run_without_files_has_no_settings_and_says_so(tmp_path: Path) -> None:
    found = read_settings(tmp_path)
    assert (found.values, found.given) == ({}, [])
    assert found.problem == f"{tmp_path / 'config.yaml'}: is missing"

"""`evaluate`: a run's network on its own and on other test images."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_exp.app import commands
from mnist_exp.experiment.run import run_experiment
from tests.helpers.fault_injection import SMALL, composed, few_images

TINY = ("model=mlp", "model.hidden_sizes=[32]", "data.subset=100", *SMALL)


def test_a_network_is_tested_on_its_own_and_on_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    accuracy = run_experiment(composed(*TINY, "cv=none"), run)["accuracy"]["mean"]
    capsys.readouterr()
    for overrides in ((), few_images()):  # the run's own test images are all of them
        assert commands.run("evaluate", str(run), *overrides) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"accuracy {accuracy:.2%}, loss ")
        assert lines[0].endswith("200 images")
        assert lines[1].startswith("by class: 0 ")
    assert commands.run("evaluate", str(run), "model=mlp") == 2
    assert "model=mlp: evaluate takes data=" in capsys.readouterr().err
    assert commands.run("evaluate", str(run), "--epoch", "9") == 2
    assert "allowed is 'best', 1, 2" in capsys.readouterr().err


def test_folds_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_experiment(composed(*TINY, "cv=kfold", "cv.n_splits=2"), tmp_path / "run")
    capsys.readouterr()
    assert commands.run("evaluate", str(tmp_path / "run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["fold 1", "fold 2", "mean", "by class"]
    assert commands.run("evaluate", "--fold", "2", str(tmp_path / "run")) == 0
    assert capsys.readouterr().out.splitlines()[0] == lines[1]

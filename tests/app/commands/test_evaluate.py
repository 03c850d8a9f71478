"""``mnist_exp evaluate RUN_DIR``: the run's own test images, and other data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp.app import commands
from mnist_exp.data.sources import BUNDLED
from mnist_exp.experiment import run_experiment
from mnist_exp.run.results import read_results
from tests.conftest import Compose

SMALL = (
    "model=mlp",
    "model.hidden_sizes=[8]",
    "training.epochs=2",
    "data.subset=300",
    "plots.enabled=false",
    "report.enabled=false",
)
Capture = pytest.CaptureFixture[str]
Directories = dict[str, Path]


@pytest.fixture(scope="module")
def runs(compose_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Directories:
    """Directories of runs with one split, with folds, and with two classes."""
    kinds = {
        "one": ("cv=holdout", "cv.test=200"),
        "folds": ("cv=kfold", "cv.n_splits=3", "training.epochs=1"),
        "two_classes": ("cv=none", "data.classes=[7,3]"),
    }
    made = {}
    for name, overrides in kinds.items():
        made[name] = tmp_path_factory.mktemp(name)
        given = {text.partition("=")[0]: text for text in (*SMALL, *overrides)}
        run_experiment(compose_config(*given.values()), made[name])
    return made


def printed(capsys: Capture, *arguments: object) -> str:
    """Run the command, which must succeed, and return what it prints."""
    code = commands.run("evaluate", *map(str, arguments))
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


def refused(capsys: Capture, *arguments: object) -> str:
    """Run the command, which must refuse its arguments, and return the error."""
    assert commands.run("evaluate", *map(str, arguments)) == 2
    return capsys.readouterr().err


def numbers(capsys: Capture, *arguments: object) -> Any:
    capsys.readouterr()
    return json.loads(printed(capsys, *arguments, "--json"))


@pytest.mark.parametrize("name", ["one", "folds", "two_classes"])
def test_on_its_own_images_the_numbers_are_those_of_results_json(
    name: str, runs: Directories, capsys: Capture
) -> None:
    results = read_results(runs[name])
    assert results is not None
    found = numbers(capsys, runs[name])
    assert found["own_split"] is True
    for key in ("accuracy", "loss", "class_names"):
        assert found[key] == results[key]
    assert found["per_class_accuracy"] == pytest.approx(results["per_class_accuracy"])
    for row, saved in zip(found["folds"], results["folds"], strict=True):
        assert row["accuracy"] == saved["accuracy"]
        assert row["confusion_matrix"] == saved["confusion_matrix"]
        assert row["epoch"] == saved["selected_epoch"]


def test_it_says_what_was_evaluated(runs: Directories, capsys: Capture) -> None:
    head, images, accuracy, by_class = printed(capsys, runs["one"]).splitlines()
    results = read_results(runs["one"])
    assert results is not None
    epoch = results["folds"][0]["selected_epoch"]
    assert head == f"mlp, {runs['one']}, epoch {epoch}"
    assert images == "200 test images of MNIST (its own split)"
    assert accuracy.startswith(f"accuracy {results['accuracy']['mean']:.2%}, loss ")
    assert by_class.startswith("accuracy by class: 0:")


def test_folds_are_a_table_with_mean_and_spread(runs: Directories, capsys: Capture) -> None:
    text = printed(capsys, runs["folds"])
    assert "of 3 folds)" in text
    assert [line.split()[0] for line in text.splitlines()[2:6]] == ["fold", "1", "2", "3"]
    (row,) = numbers(capsys, runs["folds"], "--fold", 2)["folds"]
    results = read_results(runs["folds"])
    assert results is not None
    assert (row["fold"], row["accuracy"]) == (2, results["folds"][1]["accuracy"])


def test_another_epoch(runs: Directories, capsys: Capture) -> None:
    results = read_results(runs["one"])
    assert results is not None
    for epoch, number in (("1", 1), ("last", 2)):
        assert numbers(capsys, runs["one"], "--epoch", epoch)["folds"][0]["epoch"] == number
    told = refused(capsys, runs["one"], "--epoch", "7")
    assert "epoch=7: " in told
    assert "allowed is 'best', 1, 2." in told


def test_other_data(runs: Directories, tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(BUNDLED, tmp_path / "copy")
    other = ("data=idx", f"data.root={tmp_path / 'copy'}")
    found = numbers(capsys, runs["one"], *other)
    assert (found["data"], found["own_split"]) == ("copy", False)
    assert found["folds"][0]["images"] == 10_000
    assert "10,000 test images of copy (the official test set)" in printed(
        capsys, runs["one"], *other
    )
    same = numbers(capsys, runs["two_classes"], *other)  # takes the run's classes
    results = read_results(runs["two_classes"])
    assert results is not None
    assert same["accuracy"] == results["accuracy"]
    told = refused(capsys, runs["one"], *other, "data.classes=[3,5]")
    assert "copy has 2 classes" in told
    assert "has 10: 0, 1, 2" in told


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("seed=1",), "seed=1: evaluate takes data=OPTION"),
        (("--nope",), "--nope: evaluate takes data=OPTION"),
        (("data.root=x",), "data.root=x: name the data too"),
        (("data=mnist", "data.mean=0.5"), "data.mean=0.5: leave it out"),
        (("data=idx",), "data.root"),
        (("data=nope",), "data=nope: there is no such option; allowed is csv, emnist_digits"),
        (("--fold", "2"), "fold=2: "),
    ],
)
def test_arguments_that_are_refused(
    arguments: tuple[str, ...], reason: str, runs: Directories, capsys: Capture
) -> None:
    assert reason in refused(capsys, runs["one"], *arguments)


def test_a_directory_without_a_run(tmp_path: Path, capsys: Capture) -> None:
    assert f"RUN_DIR={tmp_path}: is not a run directory" in refused(capsys, tmp_path)


def test_a_class_of_ones_own_needs_trust(
    runs: Directories, tmp_path: Path, capsys: Capture
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(runs["one"], directory)
    config = OmegaConf.load(directory / "config.yaml")
    config.model._target_ = "torch.nn.functional.torch.os.getcwd"
    OmegaConf.save(config, directory / "config.yaml")
    told = refused(capsys, directory)
    assert "model._target_=torch.nn.functional.torch.os.getcwd" in told
    assert "add trust=true" in told

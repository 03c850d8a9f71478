"""Gradients on another disk: the run's own folder, found on resume; nothing else is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnist_exp import gradients, schema
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.gradients import collect
from mnist_exp.gradients.location import located, own_directory
from mnist_exp.run.results import read_results
from tests.conftest import Compose
from tests.gradients.test_collector import collector
from tests.helpers.fault_injection import KFOLD, SMALL, composed
from tests.helpers.gradient_samples import begin, collection_settings, samples_of, small_network

COLLECTING = ("gradients=epoch", "gradients.max_samples=10", "model=mlp100")
FOLDS = (*KFOLD, *COLLECTING)
ONE_SPLIT = (*COLLECTING, "cv=none", "data.subset=100", *SMALL)
DRAWN = ("plots.enabled=true", "plots.num_samples=1", "plots.dpi=10")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory on the other disk that already holds foreign files."""
    path = tmp_path / "scratch"
    (path / "gradients" / "epoch_1").mkdir(parents=True)
    (path / "gradients" / "epoch_1" / "mine").write_text("mine")
    (path / "gradients" / ".epoch_1.partial-mine").mkdir()
    return path


def untouched(root: Path) -> bool:
    mine = root / "gradients"
    return (mine / "epoch_1" / "mine").read_text() == "mine" and len(list(mine.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "directory", ["/tmp/x", "../x", "a/b", ".", "..", "", ".hydra", "checkpoints", "Plots", "-x"]
)
def test_the_directorys_name_is_a_name(compose_config: Compose, directory: str) -> None:
    with pytest.raises(UserError, match=r"gradients\.directory=.*allowed is a plain name"):
        schema.check(compose_config("gradients=epoch", f'gradients.directory="{directory}"'))
    schema.check(compose_config("gradients=epoch", "gradients.directory=gradients_2"))
    schema.check(compose_config())


def test_the_collector_itself_takes_names_only() -> None:
    with pytest.raises(UserError, match=r"gradients\.directory=/tmp/x: allowed is a plain"):
        collector(directory="/tmp/x")


def test_a_root_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gradients\.root=scratch: allowed is null or an absolute"):
        schema.check(composed(*ONE_SPLIT, "gradients.root=scratch"))
    with pytest.raises(UserError, match=r"gradients\.root=.*nowhere: is not an existing directory"):
        run_experiment(composed(*ONE_SPLIT, f"gradients.root={tmp_path}/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_each_fold_has_a_folder_of_its_own_under_the_root(root: Path, tmp_path: Path) -> None:
    config = composed(*FOLDS, f"gradients.root={root}", *DRAWN)
    run_experiment(config, tmp_path / "run")
    assert untouched(root)
    folders = [located(tmp_path / "run" / f"fold_{fold}" / "gradients") for fold in (1, 2)]
    assert sorted(p for p in root.iterdir() if p.name != "gradients") == sorted(folders)
    assert [folder.name.rpartition("-")[0] for folder in folders] == ["run-fold_1", "run-fold_2"]
    for fold in (1, 2):
        directory = tmp_path / "run" / f"fold_{fold}" / "gradients"
        assert [path.name for path in directory.iterdir()] == ["location.json"]
        for epoch in (1, 2):
            gradients.open(directory / f"epoch_{epoch}").verify()
    assert (tmp_path / "run" / "plots" / "gradient_norms_over_epochs.png").is_file()


def test_a_run_that_goes_on_writes_to_the_same_folder_and_another_run_to_another(
    root: Path, tmp_path: Path
) -> None:
    config = composed(*ONE_SPLIT, f"gradients.root={root}")
    run_experiment(config, tmp_path / "run")
    folder = located(tmp_path / "run" / "gradients")
    config.training.epochs = 3
    run_experiment(config, tmp_path / "run")
    assert {p.name for p in folder.iterdir()} == {"owner.json", "epoch_1", "epoch_2", "epoch_3"}
    run_experiment(config, tmp_path / "run2")
    assert located(tmp_path / "run2" / "gradients") != folder
    assert untouched(root)


def test_a_location_that_names_a_folder_of_others_is_refused(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = own_directory(run / "gradients", str(root))
    assert own_directory(run / "gradients", str(root)) == folder
    shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(UserError, match="is a copy of"):
        own_directory(tmp_path / "copy" / "gradients", str(root))
    shutil.move(run, tmp_path / "moved")
    assert own_directory(tmp_path / "moved" / "gradients", str(root)) == folder
    location = tmp_path / "moved" / "gradients" / "location.json"
    content = json.loads(location.read_text())
    for change, reason in (
        ({"token": "0" * 32}, "belongs to another run"),
        ({"token": ""}, "token is ''; allowed is a text of 32 characters"),
        ({"directory": str(root / "gradients")}, "cannot be read"),
        ({"directory": 3}, "directory is 3; allowed is a text"),
    ):
        location.write_text(json.dumps(content | change))
        for use in (located, lambda path: own_directory(path, str(root))):
            with pytest.raises(UserError, match=reason):
                use(location.parent)
    assert untouched(root)


def test_an_epoch_replaces_nothing_but_an_epoch(mnist: Dataset, root: Path) -> None:
    samples = samples_of(mnist, torch.arange(10))
    with pytest.raises(UserError, match="exists and is not a collected epoch"):
        collect(small_network(), samples, root / "gradients", collection_settings(), epoch=1)
    assert untouched(root)


def test_a_parameter_whose_name_is_a_path_is_refused(mnist: Dataset, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten())
    model.add_module("a/b", torch.nn.Linear(784, 10))
    with pytest.raises(UserError, match=r"parameter.*'a/b\.weight'; allowed is a plain"):
        collect(
            model, samples_of(mnist, torch.arange(10)), tmp_path, collection_settings(), epoch=1
        )
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_with_links_is_not_written_to(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / ".mine.tmp").write_text("mine")
    for name in ("checkpoints", "gradients"):
        run = tmp_path / f"run_{name}"
        run.mkdir()
        (run / name).symlink_to(own)
        with pytest.raises(UserError, match=f"{name}: is a link, and a run writes to its own"):
            run_experiment(composed(*ONE_SPLIT), run)
        assert read_results(run) is None
    assert [path.name for path in own.iterdir()] == [".mine.tmp"]


def test_the_disk_of_the_root_is_the_one_that_is_checked(
    mnist: Dataset, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=0)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(UserError, match=f"{root} has 0.0 MB free"):
        begin(collector(root=str(root)), small_network(), mnist, torch.arange(10), tmp_path)
    assert asked == [root]
    assert not (tmp_path / "gradients").exists()

"""`load_run`: the numbers, the network and the data of a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mnist_exp import load_run
from mnist_exp.app.runs import Run
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.run.saved_config import CONFIG_FILE
from tests.helpers.fault_injection import SMALL, composed

TINY = ("data.subset=100", *SMALL)
HOLDOUT = ("cv=holdout", "cv.validation=100", "training.log_every=2", *TINY)
MLP = ("model=mlp", "model.hidden_sizes=[32]", *HOLDOUT)
RUNS = {
    "plain": MLP,
    "averaged": (*MLP, "training.averaging=0.9"),
    "metrics": (*MLP, "metrics=[top2,f1]"),
    "folds": ("model=mlp100", "constraint=memristor", "cv=kfold", "cv.n_splits=2", *TINY),
    "read": (
        *("model=mlp100", "constraint=memristor", "constraint/read=analog"),
        *("cv=kfold", "cv.n_splits=2", *TINY),
    ),
    "devices": ("model=mlp100", "constraint=memristor", *HOLDOUT),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained("plain", tmp_path_factory.mktemp("runs") / "plain")


def trained(name: str, directory: Path) -> Run:
    run_experiment(composed(*RUNS[name]), directory)
    return load_run(directory)


@pytest.mark.parametrize("name", ["averaged", "metrics", "folds", "devices", "read"])
def test_evaluate_gives_the_numbers_of_results_json(name: str, tmp_path: Path) -> None:
    check_evaluations(trained(name, tmp_path / "run"))


def test_a_plain_run_is_read_without_changing_it(plain: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in plain.directory.rglob("*")}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_evaluations(load_run(plain.directory))
    assert torch.rand(1) == expected
    assert {path: path.stat().st_mtime_ns for path in plain.directory.rglob("*")} == before


def check_evaluations(run: Run) -> None:
    rows = run.results["folds"]
    assert len(run.folds) == len(rows)
    for fold, row in zip(run.folds, rows, strict=True):
        found = run.evaluate(fold=fold)
        assert found.metrics == row.get("metrics", {})
        assert (found.accuracy, found.loss) == (row["accuracy"], row["loss"])
        assert found.per_class_accuracy == row["per_class_accuracy"]
    accuracies = [row["accuracy"] for row in rows]
    assert run.results["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))


def test_folds_are_named_where_they_are_needed(tmp_path: Path) -> None:
    run = trained("folds", tmp_path / "run")
    with pytest.raises(UserError, match="give fold=1 or 2"):
        run.model()
    with pytest.raises(UserError, match="give fold=1 or 2"):
        run.split()
    conductances = run.model(fold=2).state_dict()
    assert any("parametrizations" in name for name in conductances)


def test_every_kept_epoch_has_its_network(plain: Run) -> None:
    last, second, first = (plain.model(epoch).state_dict() for epoch in ("last", 2, 1))
    assert all(torch.equal(last[name], second[name]) for name in last)
    assert not all(torch.equal(first[name], second[name]) for name in first)
    assert not plain.model().training
    with pytest.raises(UserError, match=r"epoch=7: .* allowed is 'best', 1, 2"):
        plain.model(7)
    with pytest.raises(UserError, match=r"fold=1: .* leave fold out"):
        plain.model(fold=1)


def test_predictions_take_pixels_and_keep_their_kind(plain: Run) -> None:
    test = plain.dataset().images[plain.split().test]
    expected = plain.evaluate().predictions
    assert torch.equal(plain.predict(test), expected)  # type: ignore[arg-type]
    labels = plain.predict(test.numpy())
    assert isinstance(labels, np.ndarray)
    assert np.array_equal(labels, expected.numpy())
    assert plain.predict(test[0].numpy()) == expected[0]
    probabilities = plain.predict_proba(test[:3].numpy())
    assert probabilities.shape == (3, 10)
    assert np.allclose(probabilities.sum(1), 1)
    assert plain.class_names == tuple("0123456789")
    with pytest.raises(UserError, match="give pixels from 0 to 255 as uint8"):
        plain.predict(test.float())


def test_inputs_are_what_the_network_takes(plain: Run) -> None:
    images = plain.dataset().test_images[:5]
    inputs = plain.inputs(images.numpy())
    assert inputs.shape == (5, 1, 28, 28)
    probabilities = plain.model()(inputs).softmax(1)
    expected = torch.as_tensor(plain.predict_proba(images))
    assert torch.allclose(probabilities, expected, atol=1e-6)
    assert torch.equal(plain.inputs(images[0]), inputs[:1])


def test_rows_are_a_table(plain: Run) -> None:
    assert list(plain.metrics["epoch"] if hasattr(plain.metrics, "columns") else ()) in ([1, 2], [])
    assert len(plain.metrics) == 2
    assert len(plain.steps) >= 2
    assert "completed" in repr(plain)
    assert "accuracy" in str(plain)


def test_other_data_needs_as_many_classes(plain: Run) -> None:
    assert plain.evaluate(plain.dataset()).predictions.shape == (200,)
    with pytest.raises(UserError, match="has 2 classes"):
        plain.evaluate(plain.dataset().select_classes([0, 1]))


def test_targets_of_ones_own_need_trust(plain: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(plain.directory, tmp_path / "run")
    config = OmegaConf.load(copy / CONFIG_FILE)
    config.model = {"_target_": "tests.app.test_runs.own_model"}
    (copy / CONFIG_FILE).write_text(OmegaConf.to_yaml(config))
    with pytest.raises(UserError, match=r"own_model.*\n*.*add trust=True"):
        load_run(copy).model()
    assert len(load_run(copy).metrics) == 2
    assert isinstance(load_run(copy, trust=True).model(), torch.nn.Module)


def own_model(num_classes: int) -> torch.nn.Module:
    from mnist_exp.models import MLP

    return MLP(hidden_sizes=[32], num_classes=num_classes)


def test_a_directory_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such directory"):
        load_run(tmp_path / "missing")
    with pytest.raises(UserError, match="is not a run directory"):
        load_run(tmp_path)

"""``model.weights``: a training that starts from the weights of another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.callbacks.display import Terminal
from mnist_exp.errors import UserError
from mnist_exp.experiment.fold import Fold, open_directory
from mnist_exp.experiment.parts import build_parts
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.run.checkpoints import load_checkpoint
from mnist_exp.run.pretrained import read_pretrained
from mnist_exp.run.saved_config import hash_config, load_config, training_config
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import CNN, KFOLD, SMALL, command, composed, few_images

MLP = ("model=mlp100", "cv=none", "data.subset=100", *SMALL)


class Own(nn.Sequential):
    """A user's network with a buffer."""

    seen: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, num_classes))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        logits: Tensor = super().forward(images)
        return logits


def first_fold(directory: Path, *overrides: str) -> Fold:
    """Return the first fold of a run, freshly built."""
    parts = build_parts(composed(*overrides))
    return Fold(parts, parts.splits[0], open_directory(parts, directory), StopSignals(), Terminal())


def evaluated(fold: Fold) -> dict[str, Tensor]:
    return effective_copy(fold.state.evaluated_model).state_dict()


@pytest.mark.parametrize(
    "recipe",
    [
        CNN,
        (*CNN, "model=cnn20k"),  # BatchNorm's buffers, and averaged weights
        (*MLP, f"model._target_={__name__}.Own", "~model.hidden_sizes", "~model.activation",
         "~model.dropout"),
        (*MLP, "constraint=memristor"),
        (*MLP, "constraint=memristor", "constraint.rounding=straight_through"),
    ],
    ids=["cnn21k", "cnn20k", "own", "memristor", "straight_through"],
)  # fmt: skip
def test_a_training_starts_from_the_best_weights_of_a_run(
    tmp_path: Path, recipe: tuple[str, ...]
) -> None:
    results = run_experiment(composed(*recipe, "training.epochs=1"), tmp_path / "first")
    pretrained = read_pretrained(tmp_path / "first")
    epoch = read_pretrained(tmp_path / "first/checkpoints/epoch_00001.pt")
    assert all(torch.equal(epoch.state[name], value) for name, value in pretrained.state.items())
    free = [override for override in recipe if not override.startswith("constraint")]
    fold = first_fold(tmp_path / "x", *free, f"model.weights={tmp_path / 'first'}")
    started = evaluated(fold)
    assert started.keys() == pretrained.state.keys()
    assert all(torch.equal(started[name], pretrained.state[name]) for name in started)
    for model in {fold.state.model, fold.state.evaluated_model}:
        tested = fold.evaluate_on(model, fold.split.test)
        assert tested.accuracy == results["accuracy"]["mean"]


@pytest.mark.slow
def test_the_constraint_programs_the_pretrained_weights(tmp_path: Path) -> None:
    recipe = (*MLP, "constraint=memristor", "constraint.gain=1")
    run_experiment(composed(*recipe, "training.epochs=1"), tmp_path / "first")
    fold = first_fold(tmp_path / "x", *recipe, f"model.weights={tmp_path / 'first'}")
    assert any("parametrizations" in name for name in fold.state.model.state_dict())
    for name, value in read_pretrained(tmp_path / "first").state.items():
        step = 2 * 0.41 / 99  # of a pair's difference, rounded to the levels
        torch.testing.assert_close(evaluated(fold)[name], value, rtol=0, atol=step)


def test_a_new_head_is_drawn_from_the_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(composed(*MLP, "training.epochs=1"), tmp_path / "first")
    two = (*MLP, "data.classes=[3,5]")
    fresh = evaluated(first_fold(tmp_path / "fresh", *two))
    weights = f"model.weights={tmp_path / 'first'}"
    with pytest.raises(UserError, match=r"network\.2\.weight is \[10, 100\] in the file and \[2,"):
        run_experiment(composed(*two, weights), tmp_path / "refused")
    assert not list((tmp_path / "refused").iterdir())
    started = evaluated(first_fold(tmp_path / "x", *two, weights, "model.strict=false"))
    assert torch.equal(started["network.2.weight"], fresh["network.2.weight"])
    assert not torch.equal(started["network.0.weight"], fresh["network.0.weight"])
    capsys.readouterr()
    run_experiment(composed(*two, weights, "model.strict=false"), tmp_path / "second")
    (line,) = [li for li in capsys.readouterr().err.splitlines() if "model.strict=false" in li]
    assert line.startswith("note: model.weights=")
    assert "network.2.weight is [10, 100]" in line


def test_results_say_which_file_it_was(tmp_path: Path) -> None:
    file = tmp_path / "first/checkpoints/best.pt"
    run_experiment(composed(*MLP, "training.epochs=1"), tmp_path / "first")
    results = run_experiment(composed(*MLP, f"model.weights={file}"), tmp_path / "second")
    assert results["weights_from"] == read_pretrained(file).facts()
    written = json.loads((tmp_path / "second/results.json").read_text())
    assert written["weights_from"]["path"] == str(file)
    assert "weights_from" not in json.loads((tmp_path / "first/results.json").read_text())


def test_a_run_resumes_bit_by_bit_from_the_same_file_only(tmp_path: Path) -> None:
    run_experiment(composed(*MLP, "training.epochs=1"), tmp_path / "first")
    folds = (*KFOLD, f"model.weights={tmp_path / 'first'}")
    whole = run_experiment(composed(*folds), tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_experiment(composed(*folds), tmp_path / "parts", StopAfter(3))
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "first", moved)
    elsewhere = composed(*KFOLD, f"model.weights={moved}")
    resumed = run_experiment(elsewhere, tmp_path / "parts")  # the second fold starts here
    assert [f["weights_sha256"] for f in resumed["folds"]] == [
        f["weights_sha256"] for f in whole["folds"]
    ]
    run_experiment(composed(*MLP, "seed=5", "training.epochs=1"), tmp_path / "first")
    with pytest.raises(UserError, match=r"was trained from pretrained weights .* now from pretr"):
        run_experiment(composed(*folds), tmp_path / "parts")
    with pytest.raises(UserError, match=r"was trained from pretrained weights .* now from random"):
        run_experiment(composed(*KFOLD), tmp_path / "parts")


@pytest.mark.slow
def test_all_folds_start_from_the_same_weights_in_processes_too(tmp_path: Path) -> None:
    run_experiment(composed(*MLP, "training.epochs=1"), tmp_path / "first")
    folds = (*KFOLD, f"model.weights={tmp_path / 'first'}")
    one = run_experiment(composed(*folds), tmp_path / "one")
    two = run_experiment(composed(*folds, "cv.n_jobs=2"), tmp_path / "two")
    assert [f["weights_sha256"] for f in one["folds"]] == [
        f["weights_sha256"] for f in two["folds"]
    ]


@pytest.mark.slow
def test_the_command_line_takes_a_relative_path_and_reproduces(tmp_path: Path) -> None:
    def ran(*arguments: str) -> tuple[int, str]:
        return command(*arguments, cwd=tmp_path)

    code, output = ran(*few_images(), *MLP, "hydra.run.dir=first")
    assert code == 0, output
    code, output = ran(*few_images(), *MLP, "hydra.run.dir=second", "model.weights=first")
    assert code == 0, output
    assert load_config(tmp_path / "second", "resume").model.weights == str(tmp_path / "first")
    code, output = ran("reproduce", "second", "hydra.run.dir=again")
    assert (code, "though" in output) == (0, False), output
    shutil.move(tmp_path / "first", tmp_path / "moved")
    code, output = ran("reproduce", "second")
    assert (code, "there is no such file or run directory" in output) == (2, True)
    code, output = ran("reproduce", "second", "model.weights=moved", "hydra.run.dir=b")
    assert (code, "though" in output) == (0, False), output
    code, output = ran(*few_images(), *MLP, "hydra.run.dir=other", "seed=1")
    code, output = ran("reproduce", "second", "model.weights=other", "hydra.run.dir=c")
    assert code == 1
    assert "pretrained weights was " in output
    code, output = ran("reproduce", "moved", "model.weights=other")
    assert (code, "model.weights is not a setting of that run" in output) == (2, True)


def test_the_hash_of_a_run_without_pretrained_weights_is_as_before_there_were_any() -> None:
    config = composed(*MLP)
    values: Any = training_config(config)
    assert "weights" not in values["model"]
    assert hash_config(training_config(composed(*MLP, "model.strict=false"))) == hash_config(values)
    assert hash_config(training_config(composed(*MLP, "model.weights=a"))) != hash_config(values)


def test_the_checkpoint_names_the_weights(tmp_path: Path) -> None:
    run_experiment(composed(*MLP, "training.epochs=1"), tmp_path / "first")
    run_experiment(
        composed(*MLP, "training.epochs=1", f"model.weights={tmp_path / 'first'}"), tmp_path / "b"
    )
    saved = load_checkpoint(tmp_path / "b/checkpoints/best.pt")
    assert saved["weights_sha256"] == read_pretrained(tmp_path / "first").sha256

"""``mnist_exp export RUN_DIR``: files written, lines printed, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_exp.app.commands import run as run_word
from mnist_exp.app.commands.export import FORMATS
from mnist_exp.app.runs import load_run
from mnist_exp.experiment import export
from mnist_exp.experiment.run import run_experiment
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.run.pretrained import read_pretrained
from tests.helpers.fault_injection import KFOLD, SMALL, composed

MEMRISTOR = ("model=mlp100", "cv=none", "data.subset=100", "constraint=memristor", *SMALL)
PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "safetensors": ("safetensors",),
    "torch": (),
}


class Own(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture(scope="module")
def memristor_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "run"
    run_experiment(composed(*MEMRISTOR), directory)
    return directory


def test_the_formats_are_those_that_the_help_names() -> None:
    assert tuple(export.FORMATS) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_two_lines_say_the_file_and_what_was_compared(
    memristor_run: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for package in PACKAGES[name]:
        pytest.importorskip(package, reason=f"an extra: {name}")
    for _ in range(2):  # the default file is replaced
        capfd.readouterr()
        assert run_word("export", str(memristor_run), "--format", name) == 0
        file, compared = capfd.readouterr().out.splitlines()
        path = memristor_run / "export" / f"mlp100{export.FORMATS[name][0]}"
        assert file == f"{path}: {path.stat().st_size:,} bytes"
        assert compared.startswith("compared ")
    assert not list(path.parent.glob("*.tmp"))


def test_exported_weights_start_a_training(memristor_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="an extra: safetensors")
    file = tmp_path / "weights.safetensors"
    arguments = ("export", str(memristor_run), "--format", "safetensors", "--output", str(file))
    assert run_word(*arguments) == 0
    exported, of_run = read_pretrained(file).state, read_pretrained(memristor_run).state
    network = effective_copy(load_run(memristor_run).model()).state_dict()
    assert exported.keys() == of_run.keys() == network.keys()
    for name, value in exported.items():
        assert torch.equal(value, of_run[name])
        assert torch.equal(value, network[name])
    plain = ("model=mlp100", "cv=none", "data.subset=100", *SMALL, f"model.weights={file}")
    run_experiment(composed(*plain), tmp_path / "second")
    assert run_word(*arguments) == 2  # --output is never overwritten


def test_the_file_says_where_it_comes_from(memristor_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "network.pt2"
    arguments = ("--format", "torch", "--epoch", "1", "--output", str(file))
    assert run_word("export", str(memristor_run), *arguments) == 0
    content = {export.FACTS_FILE: ""}
    torch.export.load(file, extra_files=content)
    facts = json.loads(content[export.FACTS_FILE])
    results = load_run(memristor_run).results
    assert facts["config_hash"] == results["config_hash"]
    assert (facts["model"], facts["epoch"]) == ("mlp100", "1")
    assert json.loads(facts["class_names"]) == results["class_names"]
    assert (facts["mean"], facts["std"]) == ("0.0", "1.0")  # data.normalization=unit


def test_what_cannot_be_exported_is_refused(
    memristor_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(composed(*KFOLD), tmp_path / "folds")
    own = [f"model._target_={__name__}.Own", "~model.hidden_sizes", "~model.activation",
           "~model.dropout", "constraint=none"]  # fmt: skip
    run_experiment(composed(*MEMRISTOR, *own), tmp_path / "own")
    refused: tuple[tuple[Path, tuple[str, ...], str], ...] = (
        (tmp_path / "nowhere", (), "there is no such directory"),
        (memristor_run, ("--epoch", "7"), "allowed is 'best', 1, 2"),
        (memristor_run, ("--fold", "1"), "has a single split"),
        (tmp_path / "folds", (), "give fold=1 or 2"),
        (tmp_path / "own", (), "add trust=true"),
    )
    for directory, more, words in refused:
        assert run_word("export", str(directory), "--format", "torch", *more) == 2
        assert words in capsys.readouterr().err
    written: tuple[tuple[Path, tuple[str, ...], str], ...] = (
        (tmp_path / "folds", ("--fold", "2", "--epoch", "last"), "mlp100_fold_2_epoch_last.pt2"),
        (tmp_path / "own", ("trust=true",), "mlp100.pt2"),
    )
    for directory, more, name in written:
        assert run_word("export", str(directory), "--format", "torch", *more) == 0
        assert (directory / "export" / name).is_file()


def test_a_difference_is_an_error_and_nothing_is_written(
    memristor_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    file = tmp_path / "network.pt2"
    code = run_word("export", str(memristor_run), "--format", "torch", "--output", str(file))
    assert code == 1
    assert "error: not written: largest difference of a logit" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []

"""`run_experiment`: a run started from Python is that of the command line."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import mnist_exp
from mnist_exp.app.runs import Run
from mnist_exp.app.shipped_config import config_directory
from mnist_exp.errors import UserError
from tests.app.test_main import run as run_command
from tests.helpers.fault_injection import SMALL, command, few_images, outcome

MLP = ("model=mlp", "model.hidden_sizes=[32]", "scheduler=constant")
SETTINGS = (*MLP, "cv=none", "data.subset=100", *SMALL)


def train(*overrides: str, directory: Path | None = None) -> Run:
    return mnist_exp.run_experiment(*few_images(), *SETTINGS, *overrides, directory=directory)


@pytest.mark.slow
def test_runs_from_python_equal_that_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    runs = [train()]
    thread = threading.Thread(target=lambda: runs.append(train()))
    thread.start()
    thread.join()
    assert len(runs) == 2
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not GlobalHydra.instance().is_initialized()
    for run in runs:
        assert run.directory.parts[0] == "outputs"
        assert run.directory.name.partition("-mlp")[1] == "-mlp"
        assert run.evaluate().accuracy == run.results["folds"][0]["accuracy"]
    arguments = (*few_images(), *SETTINGS, "hydra.run.dir=run")
    code, output = command(*arguments, cwd=tmp_path)
    assert code == 0, output
    assert outcome(runs[0].directory) == outcome(runs[1].directory) == outcome(tmp_path / "run")
    # a process of its own: one forked after a training here would wait for its threads
    ended = run_command(f"resume={runs[0].directory}", "training.epochs=3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(mnist_exp.load_run(runs[0].directory).metrics) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", "did you mean training.epochs"),
        ("training.epochs=0", "training.epochs=0"),
        ("model=cnn22k", "Did you mean cnn21k"),
        ("data.subset=3", "data.subset=3: allowed is 10"),  # found only with the data
        ("hydra.run.dir=x", "hydra"),
        ("resume=x", "by command line"),
    ],
)
def test_a_wrong_setting_leaves_nothing(
    setting: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in (None, tmp_path / "a" / "b"):
        with pytest.raises(UserError, match=message):
            train(setting, directory=directory)
    assert list(tmp_path.iterdir()) == []


def test_hydra_may_be_initialised_already_and_used_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        with pytest.raises(UserError, match=r"directory=.*: holds files already"):
            train(directory=tmp_path)
        assert GlobalHydra.instance().hydra is before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]

"""`run_experiment`: a run started from Python is that of the command line."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import mnist_exp
from mnist_exp.app.runs import Run
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.interruption import STOPPING, Interrupted
from mnist_exp.run.lock import is_locked
from mnist_exp.run.yaml_files import load_yaml
from mnist_exp.train import Callback, TrainState
from mnist_exp.train.torch_settings import cudnn, deterministic_settings
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
    for run in runs:
        check_hydra_files(run.directory.absolute(), tmp_path / "run")
    # a process of its own: one forked after a training here would wait for its threads
    ended = run_command(f"resume={runs[0].directory}", "training.epochs=3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(mnist_exp.load_run(runs[0].directory).metrics) == 3


def check_hydra_files(directory: Path, other: Path) -> None:
    """Check that a directory has the files of Hydra that another one, of the command line, has."""
    names = sorted(path.name for path in (other / ".hydra").iterdir())
    assert sorted(path.name for path in (directory / ".hydra").iterdir()) == names
    assert (directory / "config.yaml").read_text() == (other / "config.yaml").read_text()
    for name in ("config.yaml", "overrides.yaml"):
        own, its = (place / ".hydra" / name for place in (directory, other))
        assert own.read_text() == its.read_text()
    own, its = (load_yaml(place / ".hydra" / "hydra.yaml").hydra for place in (directory, other))
    assert own.runtime.output_dir == str(directory)
    assert own.runtime.choices == its.runtime.choices
    assert own.job == its.job
    assert own.keys() == its.keys()


class StopsItself(Callback):
    """Sends this process a signal during the second epoch."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_batch_end(self, state: TrainState, loss: object) -> None:
        if (state.epoch, state.batch) == (1, 1):
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Interrupted)]
)
def test_a_stop_signal_leaves_a_run_to_go_on_with(
    number: signal.Signals, kind: type[BaseException], tmp_path: Path
) -> None:
    handlers = [signal.getsignal(each) for each in STOPPING]
    stop = f"callbacks.stop={{_target_: {__name__}.StopsItself, number: {int(number)}}}"
    with pytest.raises(kind, match=rf"stopped by {number.name}; continue with: .* resume=.*run"):
        train(f"+{stop}", directory=tmp_path / "run")
    assert [signal.getsignal(each) for each in STOPPING] == handlers
    run = mnist_exp.load_run(tmp_path / "run")
    assert run.results["status"] == "interrupted"
    assert list((run.directory / "checkpoints").glob("epoch_00001_partial.pt"))
    with pytest.raises(UserError, match=r"'best', 1.* The run is interrupted; continue with: "):
        run.model(2)
    assert not is_locked(run.directory)


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    mode = torch.get_deterministic_debug_mode()
    cudnn.allow_tf32 = True  # torch's defaults, whatever other tests have left
    deterministic_settings.fill_uninitialized_memory = True
    train("threads=2", directory=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), random)
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == (threads, mode)
    assert (cudnn.conv.fp32_precision, cudnn.allow_tf32) == ("tf32", True)
    assert deterministic_settings.fill_uninitialized_memory


def test_options_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    option = tmp_path / "my conf" / "experiment" / "mine.yaml"
    option.write_text("# @package _global_\ntraining: {epochs: 1}\nseed: 7\n")
    settings = [text for text in SETTINGS if not text.startswith("training.epochs")]
    run = mnist_exp.run_experiment(
        *few_images(),
        *settings,
        "experiment=mine",
        directory=tmp_path / "run",
        config_dir=tmp_path / "my conf",
    )
    assert (run.config.seed, len(run.metrics)) == (7, 1)
    with pytest.raises(UserError, match=r"Additional config directory .* not found"):
        mnist_exp.run_experiment(config_dir=tmp_path / "missing")
    with pytest.raises(UserError, match="settings are texts"):
        mnist_exp.run_experiment({"seed": 1})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", "did you mean training.epochs"),
        ("training.epochs=0", "training.epochs=0"),
        ("model=cnn22k", "Did you mean cnn21k"),
        ("data.subset=3", "data.subset=3: allowed is 10"),  # found only with the data
        ("resume=x", "belongs to the command line: python -m mnist_exp resume=x"),
        ("seed=1,2", "Ambiguous value for argument 'seed=1,2'"),
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

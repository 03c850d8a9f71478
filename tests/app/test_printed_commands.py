"""Commands that are printed work as printed, whatever the directory is called."""

from __future__ import annotations

import copy
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import mnist_exp
from mnist_exp import load_run
from mnist_exp.app.commands import evaluate, view_results
from mnist_exp.app.composition import composed as composed_by_hydra
from mnist_exp.app.composition import own_hydra
from mnist_exp.app.resume import resume, use_reference
from mnist_exp.app.run_directories import claims
from mnist_exp.app.sweep.resume import resumed_arguments
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.run.command_line import PROGRAM, override, resume_command
from mnist_exp.run.results import read_results, write_results
from mnist_exp.run.sweep_record import SweepRecord, write_sweep
from tests.helpers.fault_injection import SMALL, command, composed, few_images
from tests.helpers.odd_names import ODD_NAMES
from tests.run.test_command_line import words_of

TINY = ("model=mlp100", "cv=none", "data.subset=100", *SMALL)
PACKAGE = str(Path(mnist_exp.__file__).parents[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("done") / "run"
    run_experiment(composed(*TINY), directory)
    return directory


@pytest.fixture(scope="module")
def place(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the run once under every name, as the working directory."""
    directory = tmp_path_factory.mktemp("odd")
    for name in ODD_NAMES:
        shutil.copytree(run, directory / name)
    before = Path.cwd()
    os.chdir(directory)
    yield directory
    os.chdir(before)


def arguments_of(line: str) -> list[str]:
    """Return what the program receives when a shell runs a printed line."""
    assert line.startswith(PROGRAM)
    return words_of(line.removeprefix(PROGRAM))


def as_composed(arguments: list[str]) -> DictConfig:
    """Return what Hydra composes from arguments that name a run: many times faster."""
    config = copy.deepcopy(plain_config())
    for given in OverridesParser.create().parse_overrides(arguments):
        OmegaConf.update(config, given.key_or_group, given.value())
    config.hydra.overrides.task = arguments
    return config


@functools.cache
def plain_config() -> DictConfig:
    with own_hydra():
        config = composed_by_hydra([], with_hydra=True)
    OmegaConf.set_readonly(config.hydra, False)
    return config


def test_resume_finds_the_run(place: Path) -> None:
    for name in ODD_NAMES:
        with claims():
            config = as_composed(arguments_of(resume_command(Path(name))))
            resume(config)
            assert config.hydra.run.dir == name


def test_reproduce_finds_the_run(place: Path) -> None:
    for name in ODD_NAMES:
        config = as_composed([override("reproduce", name)])
        use_reference(config)
        assert config.reproduce == str(place / name)


def test_a_sweep_is_found(place: Path) -> None:
    for name in ODD_NAMES:
        write_sweep(place / name, SweepRecord(["seed=1,2"], [], {}, version=1))
        resumed = resumed_arguments(arguments_of(resume_command(Path(name), "sweep")))
        assert resumed[:2] == ["--multirun", "seed=1,2"], name


def test_what_view_results_prints_is_such_a_command(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ODD_NAMES:
        results = read_results(place / name)
        assert results is not None
        write_results(place / name, {**results, "status": "interrupted", "error": "stopped"})
    view_results.main(["."])
    printed = re.findall(rf"^ +({PROGRAM} .*)$", capsys.readouterr().out, re.MULTILINE)
    assert {tuple(arguments_of(line)) for line in printed} == {
        (override("resume", name),) for name in ODD_NAMES
    }


def test_evaluate_takes_any_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("lr=0.1", "a,b", "two words", "./-x"):
        assert evaluate.main([name]) == 0
    assert capsys.readouterr().out.count("accuracy") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["it's größe=1, (1) $x\ntwo lines"])
def test_a_stopped_run_goes_on_with_the_command_it_printed(tmp_path: Path, name: str) -> None:
    stopper = "import os, signal\nfrom mnist_exp.train import Callback\nclass Stop(Callback):\n"
    stopper += "    def on_batch_end(self, state, loss):\n"
    stopper += "        if state.batch == 2 and 'STOP' in os.environ:\n"
    stopper += "            os.kill(os.getpid(), signal.SIGTERM)\n"
    (tmp_path / "lab.py").write_text(stopper)
    settings = [*few_images(), *TINY, "+callbacks.stop._target_=lab.Stop"]

    def prepare() -> None:
        sys.path.insert(0, str(tmp_path))
        os.environ["STOP"] = "1"

    named = override("hydra.run.dir", name)
    code, output = command(*settings, named, cwd=tmp_path, prepare=prepare)
    assert code == 143, output
    printed = output.rpartition("continue with: ")[2].strip()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONPATH": PACKAGE}
    ended = subprocess.run(
        ["bash", "-c", printed], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert ended.returncode == 0, (printed, ended.stderr)
    results = read_results(tmp_path / name)
    assert results is not None
    assert results["status"] == "completed"


@pytest.mark.slow
def test_a_sweep_in_a_directory_with_an_odd_name_runs_there(tmp_path: Path) -> None:
    name = "größe=1, (x)"
    sweep = override("hydra.sweep.dir", name)
    code, output = command("-m", *few_images(), *TINY, "seed=1,2", sweep, cwd=tmp_path)
    assert code == 0, output
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [name]
    code, output = command(*arguments_of(resume_command(Path(name), "sweep")), cwd=tmp_path)
    assert code == 0, output
    assert OmegaConf.load(tmp_path / name / "0" / "config.yaml").seed == 1


def test_a_file_of_a_run_stands_for_the_run(run: Path) -> None:
    for name in ("results.json", "config.yaml", "checkpoints/best.pt"):
        with claims():
            config = as_composed([override("resume", run / name)])
            resume(config)
        assert config.hydra.run.dir == str(run)
        config = as_composed([override("reproduce", run / name)])
        use_reference(config)
        assert config.reproduce == str(run)
        assert load_run(run / name).directory == run


def test_a_run_with_options_from_elsewhere_says_with_which(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    text = (copied / "config.yaml").read_text()
    changed = text.replace("mnist_exp.models.MLP", "lab.Net")
    assert changed != text
    (copied / "config.yaml").write_text(changed)
    (copied / ".hydra").mkdir()
    sources = "[{path: /my conf, schema: file, provider: command-line}]"
    (copied / ".hydra" / "hydra.yaml").write_text(
        f"hydra: {{runtime: {{config_sources: {sources}}}}}\n"
    )
    with pytest.raises(UserError, match=r"lab\.Net.*started with '--config-dir=/my conf': give it"):
        resume(as_composed([override("resume", copied)]))

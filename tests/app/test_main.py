"""The command line: its imports, its refusals, and no files left behind by a refusal."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_exp import schema
from mnist_exp._version import __version__
from mnist_exp.app.commands import COMMANDS, is_word
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment import build, optimization
from mnist_exp.files.shipped_config import config_directory
from tests.conftest import Compose
from tests.helpers.fault_injection import command, exit_code, start_command


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "mnist_exp", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--cfg", "job"],
        ["--info", "defaults"],
        ["--version"],
        ["--shell-completion", "query=bash"],
        *([word, "--help"] for word in COMMANDS),
        ["view-results", "."],
    ],
)
def test_heavy_packages_are_not_imported(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = ('torch', 'matplotlib', 'sklearn', 'numpy')\n"
        "atexit.register(lambda: print('imported:', [m for m in heavy if m in sys.modules]))\n"
        "from mnist_exp.app.main import main\n"
        "main()\n"
    )
    repository = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repository, "COMP_LINE": "mnist_exp mod"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "imported: []" in ended.stdout


def test_version_is_this_programs(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout == f"mnist_exp {__version__}\n"


@pytest.mark.parametrize(
    ("word", "meant"), [("view-result", "did you mean view-results?"), ("model", "KEY=VALUE")]
)
def test_an_unknown_command_is_answered_with_the_list(
    tmp_path: Path, word: str, meant: str
) -> None:
    ended = run(word, "mlp100", cwd=tmp_path)
    assert ended.returncode == 2
    assert f"error: {word}: there is no such command" in ended.stderr
    assert meant in ended.stderr
    assert all(command in ended.stderr for command in COMMANDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", ["model=mlp", "-m", "--multirun", "+a=1", "~cv", "a/b@c=d"])
def test_overrides_and_flags_are_hydras(argument: str) -> None:
    assert not is_word(argument)


def test_a_command_has_a_file_and_names_itself_in_its_usage(tmp_path: Path) -> None:
    ended = run("view-results", "--help", cwd=tmp_path)
    assert ended.stdout.startswith("usage: python -m mnist_exp view-results ")
    for word, text in COMMANDS.items():
        module = importlib.import_module(f"mnist_exp.app.commands.{word.replace('-', '_')}")
        assert callable(module.main), text


def test_a_mistake_in_a_command_gives_a_one_line_message(tmp_path: Path) -> None:
    ended = run("reproduce", "no, such {run}'s", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "error: reproduce=no, such {run}'s: there is no such directory.\n"
    ended = run("view-results", "nowhere", cwd=tmp_path)
    assert ended.returncode == 2
    assert "nowhere: there is no such directory" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=foo"], ["model=foo: there is no such option", "cnn20k", "mlp300"]),
        (["metrics=[top2,ecee]"], ["metrics=ecee: there is no such option", "Did you mean ece?"]),
        (["training.epoch=3"], ["training.epoch"]),
        (["training.batch_size=0", "seed=-1"], ["training.batch_size=0", "seed=-1", "at least 1"]),
        (["training.label_smoothing=x"], ["training.label_smoothing=x", "0 <= s < 1"]),
        (["data=idx"], ["data.root"]),
        (["optimizer.lr=abc"], ["optimizer.lr=abc: allowed is a number"]),
        (["optimizer=sgd", "optimizer.nesterov=off"], ["optimizer.nesterov=off", "true or false"]),
        (
            ["hydra.run.dir=/proc/nowhere/run"],
            ["hydra.run.dir=/proc/nowhere/run", "cannot be made"],
        ),
    ],
)
def test_wrong_settings_get_a_message_no_traceback_and_leave_nothing(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    ended = run(*arguments, cwd=tmp_path)
    assert ended.returncode != 0
    assert all(word in ended.stderr for word in words), ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.rglob("*.json")) == list(tmp_path.rglob(".hydra")) == []


@pytest.mark.slow
def test_a_setting_refused_only_with_the_data_leaves_nothing(tmp_path: Path) -> None:
    code, output = command("data.subset=3", cwd=tmp_path)
    assert code == 2
    assert "data.subset=3: allowed is 10" in output
    assert "Traceback" not in output
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["command.log"]


LATE_MISTAKE = ("data=idx", "data.root=nowhere")  # found after Hydra has written its files


@pytest.mark.slow
@pytest.mark.parametrize("place", ["own", "own/", ".", "linked", "own/new/one", "../own/new"])
@pytest.mark.parametrize("chdir", [False, True])
def test_a_late_mistake_removes_only_what_the_run_made(
    tmp_path: Path, place: str, chdir: bool
) -> None:
    cwd = tmp_path / "cwd"
    for directory in (cwd / "own" if place != "." else cwd, tmp_path / "own"):
        directory.mkdir(parents=True)
    if place == "linked":
        (cwd / "linked").symlink_to("own")
    before = sorted(tmp_path.rglob("*"))
    more = [f"hydra.run.dir={place}", f"hydra.job.chdir={chdir}"]
    log = tmp_path.with_name(f"{tmp_path.name}.log")
    assert exit_code(start_command(*LATE_MISTAKE, *more, cwd=cwd, log=log)) == 2
    assert "nowhere: there is no such directory" in log.read_text()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_late_mistake_leaves_the_directories_of_other_runs(tmp_path: Path) -> None:
    (tmp_path / "outputs" / "today").mkdir(parents=True)
    (tmp_path / "outputs" / "today" / "run").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".lock").write_text("mine")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / ".hydra").mkdir()
    for name, told in {"today/run": "nowhere", "../empty": "nowhere", "../used": "holds"}.items():
        code, output = command(*LATE_MISTAKE, f"hydra.run.dir=outputs/{name}", cwd=tmp_path)
        assert (code, told in output) == (2, True), output
    for name in ("outputs/today/run", "empty/.lock", "used/.hydra"):
        assert (tmp_path / name).exists()


@pytest.mark.slow
def test_a_run_whose_files_hydra_puts_elsewhere_leaves_nothing_either(tmp_path: Path) -> None:
    for name in ("settings", "null", "../above", "."):
        code, _ = command(*LATE_MISTAKE, f"hydra.output_subdir={name}", cwd=tmp_path)
        assert code == 2
        assert (tmp_path / "outputs").exists() == (name in ("../above", "."))


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(schema.RULES.keys() - {"extra"}))  # takes any group
def test_every_rule_refuses_nonsense_by_name(compose_config: Compose, key: str) -> None:
    config = compose_config("model=mlp100")  # has every key of cv
    schema.check(config)
    OmegaConf.set_struct(config, False)
    nonsense: object
    for nonsense in ({"a": 1}, [{}]):
        OmegaConf.update(config, key, nonsense, merge=False)
        with pytest.raises(UserError, match=key.replace(".", r"\.")):
            schema.check(config)


def test_an_update_scheme_is_refused_as_a_constraint(compose_config: Compose) -> None:
    config = compose_config("constraint=update/tiki_taka")
    with pytest.raises(UserError, match=r"no constraint.*constraint/update=tiki_taka"):
        build.build_state(config, 10, 1000, torch.device("cpu"), seed=0)


@given(value=st.one_of(st.integers(max_value=0), st.floats(), st.text(), st.booleans()))
def test_only_whole_numbers_from_1_pass_as_epochs(value: object) -> None:
    assert not schema.RULES["training.epochs"].accepts(value)


def options() -> list[str]:
    """Options that tests/experiment/test_products.py does not build."""
    groups = ["cv", "gradients", "optimizer", "scheduler"]
    groups += [f"constraint/{part}" for part in ("cost", "read", "update")]
    files = [path for group in groups for path in (config_directory() / group).rglob("*.yaml")]
    for group in ("augmentation", "constraint", "model"):
        files += (config_directory() / group).glob("_*.yaml")  # recipes and parts of options
    return sorted(path.relative_to(config_directory()).with_suffix("").as_posix() for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("option", options())
def test_every_option_composes_passes_the_check_and_builds(
    compose_config: Compose, mnist: Dataset, option: str
) -> None:
    group, _, name = option.rpartition("/")
    device = ["constraint=memristor"] * (
        group in ("constraint/update", "constraint/read", "constraint/cost")
    )  # which it goes with
    config = compose_config(*device, f"{group}={name}")
    schema.check(config)
    build.build_recipe(config, torch.device("cpu"))
    build.build_splits(config, mnist)
    state = build.build_state(config, 10, 1000, build.prepare_torch(config), seed=0)
    assert len(state.optimizer.param_groups) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (config_directory() / "experiment").glob("*"))
)
def test_every_experiment_composes_and_passes_the_check(compose_config: Compose, name: str) -> None:
    schema.check(compose_config(f"experiment={name}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=mlp100", "scheduler=onecycle", "scheduler.total_steps=3", "training.epochs=2"],
            "scheduler.total_steps=3: the training has 16 steps",
        ),
        (["scheduler=onecycle", "scheduler.total_steps=many"], "total_steps=many: .* whole"),
        (
            ["scheduler=onecycle", "scheduler.max_lr=-1"],
            "max_lr=-1.*rate of -0.04.*step 1 ",
        ),
        (["optimizer=adamw", "+optimizer.eps=-1"], "optimizer: torch.optim.AdamW refuses.*-1"),
        (["optimizer=adamw", "+optimizer.foo=1"], "'foo'.*Its settings are: lr"),
        (["optimizer._target_=torch.optim.Foo"], r"optimizer\._target_=torch\.optim\.Foo"),
        (["optimizer._target_=os.system"], r"optimizer\._target_=os\.system: is not a usable tar"),
        (["model._target_=torch.nn.Linear"], "model: torch.nn.Linear: .*in_features"),
        (["runtime.device=cuda"], "runtime=cuda.*allowed is auto"),
        (["model=mlp100", "training.selection=validation"], "training.selection=validation"),
    ],
)
def test_settings_that_only_their_target_can_judge_are_refused(
    compose_config: Compose, mnist: Dataset, overrides: list[str], message: str
) -> None:
    from mnist_exp.experiment.summary import selection_rule

    if overrides == ["runtime.device=cuda"] and __import__("torch").cuda.is_available():
        pytest.skip("this machine has CUDA")
    config = compose_config(*overrides)

    def build_all() -> None:
        selection_rule(config, build.build_splits(config, mnist))
        state = build.build_state(config, 10, 1000, build.prepare_torch(config), seed=0)
        optimization.check_rates(config, state.model, 1000)

    with pytest.raises(UserError, match=message):
        build_all()


def test_a_scheme_that_is_no_splitter_is_refused(compose_config: Compose, mnist: Dataset) -> None:
    config = compose_config("cv=kfold", "cv._target_=collections.OrderedDict")
    with pytest.raises(UserError, match="OrderedDict is not a splitter"):
        build.build_splits(config, mnist)


@pytest.mark.parametrize(
    ("model", "optimizer", "rate"), [("cnn20k", "adam", 1e-3), ("cnn21k", "sgd", 0.1)]
)
def test_the_command_line_wins_over_a_models_recipe_without_leftovers(
    compose_config: Compose, model: str, optimizer: str, rate: float
) -> None:
    config = compose_config(f"model={model}", f"optimizer={optimizer}")
    own = compose_config(f"optimizer={optimizer}", "model=mlp100").optimizer
    assert config.optimizer == own
    assert config.optimizer.lr == rate

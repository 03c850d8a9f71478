"""Run directories from untrusted sources: all targets are checked before one is called."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_exp.app.foreign_targets import is_known_part, judge_targets, targets_of_options
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.saved_config import CONFIG_FILE
from tests.helpers.fault_injection import SMALL, command, few_images, without_times

RUN = ("model=mlp100", "cv=none", "data.subset=100", *SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("finished")
    code, output = command(*few_images(), *RUN, "hydra.run.dir=run", cwd=directory)
    assert code == 0, output
    return directory / "run"


@pytest.fixture
def foreign(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run; tests may change its configuration."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change(run: Path, key: str, value: object) -> None:
    config = OmegaConf.load(run / CONFIG_FILE)
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    (run / CONFIG_FILE).write_text(OmegaConf.to_yaml(config))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resume", "reproduce"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (
            "augmentation",
            {"_target_": "sympy.sympify", "a": "__import__('os').system('touch HIT')"},
        ),
        ("tracker", {"_target_": "subprocess.run", "args": ["touch", "HIT"]}),
        ("cv._target_", "torch.nn.functional.torch.os.system"),
        ("augmentation", {"_target_": "mnist_exp.files.atomic.write_atomic", "path": "HIT"}),
        ("model.hidden_sizes", {"_target_": "pathlib.Path.touch", "self": "HIT"}),
        ("data.extra", [{"deeper": {"_target_": "antigravity"}}]),
    ],
)
def test_nothing_that_a_foreign_configuration_names_is_called(
    foreign: Path, key: str, name: str, value: object
) -> None:
    change(foreign, name, value)
    before = sorted(foreign.rglob("*"))
    code, output = command(f"{key}=run", cwd=foreign.parent)
    assert code == 2, output
    assert output.startswith(f"error: {key}=run: its configuration calls targets that no option of")
    assert f"{name.partition('.')[0]}" in output
    assert "trust=true" in output
    assert sorted(foreign.rglob("*")) == before
    assert not (foreign.parent / "HIT").exists()


@pytest.mark.slow
def test_trust_given_by_the_user_is_enough(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from mnist_exp.models import MLP as Mine\n")
    for name in ("results.json", "checkpoints/best.pt", "checkpoints/epoch_00001.pt"):
        (foreign / name).unlink()
    (foreign / "checkpoints/epoch_00002.pt").unlink()
    (foreign / "checkpoints/mnist_mlp.pth").unlink()
    change(foreign, "model._target_", "mine.Mine")

    def prepare() -> None:
        sys.path.insert(0, str(tmp_path))

    code, output = command("resume=run", cwd=tmp_path, prepare=prepare)
    assert (code, "model._target_=mine.Mine" in output) == (2, True), output
    code, output = command("resume=run", "trust=true", cwd=tmp_path, prepare=prepare)
    assert code == 0, output
    code, output = command("resume=run", "trust=yes", cwd=tmp_path, prepare=prepare)
    assert code == 2, output


def test_targets_of_the_callers_own_options_are_called(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: mine.Mine\nname: mine\n")
    (tmp_path / "mine.py").write_text("from mnist_exp.models import MLP as Mine\n")
    change(foreign, "model._target_", "mine.Mine")
    code, output = command("resume=run", f"--config-dir={tmp_path / 'conf'}", cwd=tmp_path)
    # the target is accepted; then the checkpoint turns out to be another run's
    assert (code, "model._target_ was mnist_exp.models.MLP and is mine.Mine now" in output) == (
        2,
        True,
    ), output


def test_settings_are_compared_with_the_checkpoint_before_anything_is_called(
    foreign: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("open('HIT', 'w')\n")
    change(foreign, "data", {"_target_": "mine.load", "classes": None, "subset": None})
    change(foreign, "data.normalization", "unit")
    change(foreign, "data.mean", None)
    change(foreign, "data.std", None)
    code, output = command("resume=run", "trust=true", cwd=tmp_path)
    assert (code, "started with other settings" in output) == (2, True), output
    assert not (tmp_path / "HIT").exists()


def test_hydras_own_settings_are_not_read_from_a_run(foreign: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    handler = {"class": "logging.FileHandler", "filename": str(precious), "mode": "w"}
    change(foreign, "hydra.job_logging.handlers.file", handler)
    change(foreign, "hydra.run.dir", str(tmp_path / "elsewhere"))
    code, output = command("resume=run", cwd=tmp_path)
    assert code == 0, output
    assert precious.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("target", "known"),
    [
        ("torch.optim.SGD", True),
        ("torch.optim.lr_scheduler.ExponentialLR", True),
        ("torch.nn.Sequential", True),
        ("sklearn.model_selection.ShuffleSplit", True),
        ("mnist_exp.models.CNN21k", True),
        ("mnist_exp.device.TableStep", True),
        ("mnist_exp.device.TikiTakaV2", True),
        ("mnist_exp.device.measurement.readings.Path", False),
        ("torch.load", False),
        ("torch.nn.functional.torch.os.system", False),
        ("torch.nn.functional.torch.load", False),
        ("torch.nn.nowhere", False),
        ("torch.optim.Optimizer.load_state_dict", False),
        ("sklearn.model_selection.train_test_split", False),
        ("mnist_exp.files.atomic.os.remove", False),
        ("mnist_exp.models.mlp.nn.functional.torch.os.system", False),
        ("antigravity", False),
        ({"not": "a text"}, False),
    ],
)
def test_a_target_is_checked_by_what_it_resolves_to(target: object, known: bool) -> None:
    assert is_known_part(target) is known


def test_every_target_of_the_shipped_options_may_be_called() -> None:
    own = targets_of_options([config_directory()])
    assert {"mnist_exp.models.MLP", "torch.optim.SGD", "mnist_exp.cv.Holdout"} <= own
    config = OmegaConf.create({"a": [{"_target_": target} for target in own]})
    judge_targets(config, "resume=run", own)
    with pytest.raises(UserError, match=r"a\[0\]\._target_=os\.system"):
        judge_targets(OmegaConf.create({"a": [{"_target_": "os.system"}]}), "resume=run", own)


@pytest.mark.slow
def test_data_may_move(finished: Path, foreign: Path, tmp_path: Path) -> None:
    old = few_images()[1].partition("=")[2]
    shutil.copytree(old, tmp_path / "moved")
    change(foreign, "data.root", "/nowhere")
    for path in (foreign / "results.json", *foreign.glob("checkpoints/epoch_00002.pt")):
        path.unlink()
    code, output = command("resume=run", cwd=tmp_path)
    assert (code, "data.root=/nowhere" in output) == (2, True), output
    code, output = command("resume=run", "data.root=moved", cwd=tmp_path)
    assert code == 0, output
    ours, theirs = (
        without_times(json.loads((run / "results.json").read_text())) for run in (foreign, finished)
    )
    assert ours["folds"][0]["weights_sha256"] == theirs["folds"][0]["weights_sha256"]
    code, output = command("resume=run", cwd=tmp_path)
    assert (code, "finished already" in output) == (0, True), output
    code, output = command("reproduce=run", "data.root=moved", cwd=tmp_path)
    assert (code, "identical" in output) == (0, True), output
    shutil.copy(tmp_path / "moved/t10k-images-idx3-ubyte", tmp_path / "moved/x")
    content = bytearray((tmp_path / "moved/x").read_bytes())
    content[-1] ^= 1
    (tmp_path / "moved/t10k-images-idx3-ubyte").write_bytes(content)
    (foreign / "results.json").unlink()
    code, output = command("resume=run", cwd=tmp_path)
    assert (code, "was trained on other data" in output) == (2, True), output


@pytest.mark.slow
def test_the_place_of_data_is_no_setting_of_a_run_without_files(tmp_path: Path) -> None:
    run = ("model=mlp100", "cv=none", "data.subset=100", *SMALL)
    code, output = command(*run, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, output
    code, output = command("resume=run", "data.root=x", cwd=tmp_path)
    assert (code, "data.root is not a setting of that run" in output) == (2, True), output


def test_a_relative_data_path_starts_at_the_working_directory(tmp_path: Path) -> None:
    shutil.copytree(few_images()[1].partition("=")[2], tmp_path / "here")
    data = ("data=idx", "data.root=here")
    code, output = command(*data, *RUN, "hydra.run.dir=run", "hydra.job.chdir=true", cwd=tmp_path)
    assert code == 0, output
    assert OmegaConf.load(tmp_path / "run" / CONFIG_FILE).data.root == str(tmp_path / "here")


@pytest.mark.slow
def test_what_ran_is_saved_not_what_it_was_derived_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(
        "# @package _global_\nseed: ${oc.decode:${oc.env:SEED}}\n"
    )
    own = ("--config-dir=conf", "experiment=mine")
    monkeypatch.setenv("SEED", "5")
    code, output = command(*own, *few_images(), *RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, output
    monkeypatch.setenv("SEED", "6")
    assert "${oc.env:SEED}" in (tmp_path / "run/.hydra/config.yaml").read_text()
    for key in ("reproduce", "resume"):
        code, output = command(f"{key}=run", cwd=tmp_path)
        assert code == 0, output
        assert "seed 5" in output, output
    monkeypatch.delenv("SEED")
    code, output = command("reproduce=run", cwd=tmp_path)
    assert (code, "identical" in output) == (0, True), output

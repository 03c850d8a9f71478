"""sweep.json from an untrusted source: which overrides it may hold, and checks on reading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_exp.app.sweep.job import restore_config
from mnist_exp.app.sweep.overrides import check_trusted, is_plain
from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import NEW_GROUPS
from mnist_exp.run.sweep_record import (
    JOBS,
    AskedJob,
    JobRecord,
    SweepRecord,
    is_directory_name,
    read_job,
    read_sweep,
    write_job,
    write_sweep,
)
from tests.helpers.fault_injection import command

PLAIN = [
    "seed=1,2", "model=mlp100,cnn20k", "seed=range(3)", "optimizer.lr=0.1", "+model.extra=[1,a]",
    "~tracker", "data.root=../images", "data.root='${oc.env:HOME}/x'", "scheduler=_recipe_cnn21k",
    "hydra.sweep.subdir=${model.name}-${hydra.job.num}", "hydra.output_subdir=null",
    "hydra.job.chdir=true", "hydra/launcher=joblib", "hydra/sweeper=optuna",
    "hydra.launcher.n_jobs=2", "hydra.launcher.partition=gpu", "hydra.sweeper.max_batch_size=3",
    "+hydra.sweeper.params.seed=1,2", "model.name='a, b'", "seed=shuffle(1,2)", "model=glob(*)",
    "sweep.zip=[[seed,model],[a,b]]", "sweep.filter='seed < 3'", "sweep.dry_run=false",
]  # fmt: skip
FOREIGN = [
    "optimizer._target_=os.system", "model={_target_:os.system}", "+x.y=[{_target_:os.system}]",
    "hydra.callbacks={}", "+hydra.callbacks.x._target_=os.system", "~hydra.callbacks",
    "hydra.job_logging.handlers={}", "hydra.hydra_logging=null", "hydra/job_logging=file",
    "hydra.sweep.dir=/elsewhere", "hydra.searchpath=[file:///elsewhere]", "hydra.run.dir=x",
    "hydra.launcher.setup=[reboot]", "hydra.launcher.python=sh", "hydra.launcher={setup:[reboot]}",
    "hydra.launcher.partition='$(reboot)'", "hydra.launcher.nodes=[1,reboot]",
    "hydra.sweeper.storage=sqlite:///elsewhere", "hydra/launcher=../../evil",
    "++hydra={callbacks:1}", "model=../../evil", "model=a,../evil", "model=/evil",
    "model='${oc.env:EVIL}'", "model=[../evil]", "model@hydra.callbacks.x=mlp100",
    "+hydra.sweeper.params.hydra.callbacks=1",
    "+hydra.sweeper.params.model=../evil", "trust=true", "sweep.resume=elsewhere", "resume=x",
    "hydra.job.env_set.LD_PRELOAD=x", "--config-dir=x", "-m", "not an override",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_settings_and_shipped_options_are_plain(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("place", ["overrides", "hydra_overrides"])
def test_all_else_needs_trust_and_is_named(tmp_path: Path, text: str, place: str) -> None:
    change: dict[str, Any] = {place: [text]}
    record = replace(SweepRecord([], [], {}), **change)
    with pytest.raises(UserError, match="needs trust=true for ") as told:
        check_trusted(tmp_path, record)
    assert text in str(told.value)


def test_a_configuration_that_came_with_the_sweep_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "s")
    record = SweepRecord([], [], {}, config_dir=str(tmp_path / "own"), config_name="mine")
    check_trusted(tmp_path / "s", record)
    changes: list[dict[str, Any]] = [
        {"config_dir": str(tmp_path / "s" / "conf")},
        {"config_dir": str(tmp_path / "link" / "conf")},
        {"config_path": str(tmp_path / "s")},
        {"config_dir": "relative"},
        {"config_name": "../mine"},
        {"launcher": "../evil"},
        {"params": {"optimizer._target_": "os.system"}},
        {"jobs": [AskedJob(0, ["hydra.callbacks=1"], "0")]},
    ]
    for change in changes:
        with pytest.raises(UserError, match="needs trust=true"):
            check_trusted(tmp_path / "s", replace(record, **change))


def test_the_command_refuses_before_anything_is_composed(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    evil = ["hydra.job_logging.handlers.x={class:logging.FileHandler,filename:victim,mode:w}"]
    write_sweep(tmp_path / "s", SweepRecord(["seed=1"], evil, {}))
    (tmp_path / "victim").write_text("mine")
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert (code, "needs trust=true for hydra.job_logging" in output) == (2, True)
    assert "Traceback" not in output
    assert (tmp_path / "victim").read_text() == "mine"
    code, output = command("sweep.resume=s", "trust=true", "seed=2", cwd=tmp_path)
    assert (code, "seed=2: sweep.resume runs the rest" in output) == (2, True)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["sweep.json"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SOUND = {
    "sweep.json": {
        "overrides": ["seed=1"], "hydra_overrides": [], "params": {}, "config_name": "config",
        "jobs": [{"number": 0, "overrides": ["seed=1"], "directory": "0", "config": {"seed": 1}}],
        "resumed": False, "version": 1, "objective": "validation_f1", "direction": "maximize",
    },
    f"{JOBS}/0.json": {
        "number": 0, "overrides": ["seed=1"], "directory": "0", "config_hash": "0", "error": "",
        "status": "failed", "version": 1,
    },
}  # fmt: skip


def read(directory: Path) -> tuple[SweepRecord, JobRecord | None]:
    return read_sweep(directory), read_job(directory, 0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    (directory / JOBS).mkdir()
    return directory


@given(data=st.data())
def test_whatever_stands_in_a_record_is_read_or_refused(sound: Path, data: st.DataObject) -> None:
    content: dict[str, Any] = json.loads(json.dumps(SOUND))
    name = data.draw(st.sampled_from(list(content)))
    place = data.draw(st.sampled_from([content[name], *content[name].get("jobs", [])]))
    place[data.draw(st.sampled_from([*place, "unknown"]))] = data.draw(JSON)
    if data.draw(st.booleans()):
        content[name].pop(data.draw(st.sampled_from(list(content[name]))))
    for file, values in content.items():
        (sound / file).write_text(json.dumps(values))
    try:
        record, job = read(sound)
    except UserError:
        return
    for texts in (record.overrides, record.hydra_overrides, job.overrides if job else []):
        assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("sweep.json", {"overrides": ["a=\x1b[2J"]}, r"overrides\[0\] is .*no control characters"),
        ("sweep.json", {"overrides": "seed=1"}, "overrides is 'seed=1'; allowed is a list"),
        ("sweep.json", {"jobs": [{"number": 0}]}, r"\[0\]\.overrides is missing"),
        ("sweep.json", {"version": 2}, "version is 2; allowed is a version up to 1"),
        ("sweep.json", {"more": 1}, "'more' is not a key of it"),
        ("sweep.json", {"objective": "test_accuracy"}, "objective is 'test_accuracy'; allowed is"),
        ("sweep.json", {"direction": "up"}, "direction is 'up'; allowed is maximize or minimize"),
        (
            f"{JOBS}/0.json",
            {"directory": "../elsewhere"},
            "directory is '../elsewhere'; allowed is",
        ),
        (f"{JOBS}/0.json", {"number": 3}, "is of job 3"),
        (f"{JOBS}/0.json", {"status": "fine"}, "status is 'fine'; allowed is running or"),
    ],
)
def test_a_damaged_record_is_refused(
    sound: Path, name: str, change: dict[str, Any], told: str
) -> None:
    for file, values in SOUND.items():
        (sound / file).write_text(json.dumps(values | (change if file == name else {})))
    with pytest.raises(UserError, match=told):
        read(sound)


def test_deep_nesting_is_refused(sound: Path) -> None:
    (sound / "sweep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(sound)


@given(name=st.text())
def test_a_directory_name_stays_inside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if is_directory_name(name):
        base = tmp_path_factory.getbasetemp()
        assert (base / name).resolve().is_relative_to(base.resolve())
        assert (base / name).resolve() != base.resolve()


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    jobs = [AskedJob(0, ["seed=1"], "a/b", {"seed": 1}), AskedJob(1, ["seed=2"], "c")]
    record = SweepRecord(["seed=1,2"], ["hydra.job.chdir=true"], {"x": "1,2"}, jobs=jobs, version=1)
    write_sweep(tmp_path, record)
    assert read_sweep(tmp_path) == record
    job = JobRecord(7, ["seed=1"], "0", "hash", "failed", "why\nnot")
    write_job(tmp_path, job)
    assert read_job(tmp_path, 7) == job
    assert read_job(tmp_path, 8) is None


def test_a_job_goes_on_without_keys_that_a_later_version_added() -> None:
    training = {"epochs": 2, "averaging_warmup": False, "log_every": None}
    before = {"seed": 1, "training": training, **NEW_GROUPS}
    now = OmegaConf.create({**before, "training": {"epochs": 2, "new": 3}, "trust": False})
    restored = restore_config(now, before, "job 0")
    assert OmegaConf.to_container(restored) == {**before, "trust": False}
    same = OmegaConf.create({**before, "trust": False})
    assert restore_config(same, before, "job 0") is same
    for other in ({"seed": 2}, {"training": {"epochs": 3}}, {"training": None}):
        with pytest.raises(UserError, match="job 0 was started with other settings: "):
            restore_config(OmegaConf.merge(now, other), before, "job 0")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"training\.epochs was 2 and is None now"):
        restore_config(OmegaConf.create({"seed": 1, "training": {"new": 1}}), before, "job 0")

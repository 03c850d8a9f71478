"""A sweep accounts for every requested job, under any Hydra settings and directory."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp.run.results import read_results, write_results
from mnist_exp.run.saved_config import NEW_GROUPS, RUN_KEYS, has_hash, hash_config
from mnist_exp.run.sweep_record import read_sweep
from tests.helpers.fault_injection import (
    LONG,
    command,
    exit_code,
    few_images,
    kill_at_file_event,
    start_command,
    wait_until,
)

TINY = (
    "model=mlp100", "cv=none", "data.subset=100", "training.epochs=1", "plots.enabled=false",
    "threads=1",
)  # fmt: skip


def sweep(*arguments: str, cwd: Path, **more: Any) -> tuple[int, str]:
    settings = [*few_images(), *TINY, "hydra.sweep.dir=s"]
    return command("-m", *arguments, *settings, cwd=cwd, **more)


def table(sweep_dir: Path) -> list[dict[str, str]]:
    with (sweep_dir / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results_of(directory: Path) -> dict[str, Any]:
    results = read_results(directory)
    assert results is not None
    return results


@pytest.mark.slow
@pytest.mark.parametrize("subdir", ["same", "${model.name}", "a,b/c"])
def test_jobs_that_would_share_a_directory_get_one_each(tmp_path: Path, subdir: str) -> None:
    code, output = sweep(
        "seed=1,2", f"hydra.sweep.subdir='{subdir}'", "hydra.job.chdir=true", cwd=tmp_path
    )
    assert code == 0, output
    rows = table(tmp_path / "s")
    assert sorted(row["seed"] for row in rows) == ["1", "2"]
    for row in rows:
        assert results_of(tmp_path / "s" / row["job"])["seed"] == int(row["seed"])
        overrides = (tmp_path / "s" / row["job"] / ".hydra" / "overrides.yaml").read_text()
        assert f"seed={row['seed']}" in overrides
    assert f"hydra.sweep.subdir={subdir} is the same for several jobs" in output
    before = (tmp_path / "s" / "sweep.csv").read_text()
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "s" / "sweep.csv").read_text() == before


@pytest.mark.slow
def test_a_sweep_finds_its_data_from_any_directory(tmp_path: Path) -> None:
    shutil.copytree(few_images()[1].partition("=")[2], tmp_path / "images")
    settings = [*TINY, "data=idx", "data.root=images", "hydra.sweep.dir=s"]
    code, output = command("-m", "seed=1,2", *settings, cwd=tmp_path)
    assert code == 0, output
    before = [results_of(tmp_path / "s" / job) for job in "01"]
    shutil.rmtree(tmp_path / "s" / "1")
    (tmp_path / "s" / ".jobs" / "1.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    code, output = command("sweep.resume=../s", cwd=tmp_path / "elsewhere")
    assert code == 0, output
    after = [results_of(tmp_path / "s" / job) for job in "01"]
    assert after[0] == before[0]
    assert after[1]["folds"][0]["weights_sha256"] == before[1]["folds"][0]["weights_sha256"]


@pytest.mark.slow
def test_results_with_a_hash_of_an_older_version_are_those_of_the_job(tmp_path: Path) -> None:
    sweep("seed=1,2", cwd=tmp_path)
    job = tmp_path / "s" / "0"
    config = OmegaConf.to_container(OmegaConf.load(job / "config.yaml"))
    assert isinstance(config, dict)
    for key in RUN_KEYS:
        config.pop(key, None)
    config["training"].pop("averaging_warmup")
    new_keys = {
        "model": ("weights", "strict"),
        "data": ("class_names", "transpose"),
        "plots": ("format",),
    }
    for group, keys in new_keys.items():
        for key in keys:
            config[group].pop(key)
    for group in NEW_GROUPS:
        del config[group]
    config["tracker"] = {"_target_": None}
    config["checkpoints"]["keep"] = 5  # null today
    older = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    results = results_of(job) | {"config_hash": older}
    write_results(job, results)
    shutil.rmtree(tmp_path / "s" / ".jobs")
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert results_of(job) == results
    assert [row["status"] for row in table(tmp_path / "s")] == ["completed"] * 2


def test_a_hash_that_an_older_version_took_with_the_place_of_the_data_is_known() -> None:
    config = {"seed": 1, "data": {"root": "here", "subset": None}}
    moved = {"seed": 1, "data": {"root": "there", "subset": None}}
    older = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    assert has_hash(config, older)
    assert not has_hash(moved, older)
    assert has_hash(moved, hash_config(config))
    without = {"data": {"subset": None}, "seed": 1}
    assert hash_config(without) == hash_config(config)
    assert has_hash(
        without, hashlib.sha256(json.dumps(without, sort_keys=True).encode()).hexdigest()
    )


@pytest.mark.slow
@pytest.mark.parametrize("subdir", ["/tmp/elsewhere${hydra.job.num}", "../${seed}", ".", ".jobs"])
def test_a_job_does_not_leave_the_directory_of_its_sweep(tmp_path: Path, subdir: str) -> None:
    code, output = sweep("seed=1,2", f"hydra.sweep.subdir='{subdir}'", cwd=tmp_path)
    assert code == 2
    assert "allowed is a directory inside hydra.sweep.dir" in output
    assert [path.name for path in tmp_path.iterdir()] == ["command.log"]


@pytest.mark.slow
def test_jobs_are_counted_where_hydra_saves_nothing(tmp_path: Path) -> None:
    code, output = sweep(
        "data.classes=[0,1],[0,77],[0,78]", "hydra.output_subdir=null",
        "sweep.objective=validation.loss", cwd=tmp_path,
    )  # fmt: skip
    assert code == 1, output
    recorded = read_sweep(tmp_path / "s")
    assert (recorded.objective, recorded.direction) == ("validation_loss", "minimize")
    assert "3 jobs: 1 completed, 2 failed" in output
    assert [row["data.classes"] for row in table(tmp_path / "s")] == ["[0,1]", "[0,77]", "[0,78]"]
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert (code, "3 jobs: 1 completed, 2 failed" in output) == (1, True), output
    assert list(tmp_path.rglob(".hydra")) == []


@pytest.mark.slow
def test_jobs_that_never_began_stand_in_the_table(tmp_path: Path) -> None:
    arguments = ("--multirun", *few_images(), *LONG, "seed=0,1,2", "hydra.sweep.dir=s")
    process = start_command(*arguments, cwd=tmp_path, log=tmp_path / "log")
    wait_until((tmp_path / "s" / "0" / "metrics.jsonl").exists, process)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 143
    rows = {row["seed"]: row["status"] for row in table(tmp_path / "s")}
    assert rows == {"0": "interrupted", "1": "not run", "2": "not run"}


def own_config(directory: Path, hidden: int) -> None:
    """Write a user's primary configuration with a smaller network."""
    directory.mkdir(exist_ok=True)
    (directory / "mine.yaml").write_text(
        f"defaults:\n  - config\n  - _self_\nmodel:\n  hidden_sizes: [{hidden}]\n"
    )


def killed_sweep(tmp_path: Path, *arguments: str, jobs: str = "seed=1,2") -> None:
    """Start a sweep of two jobs and kill it in the second, before training."""
    code, output = sweep(
        *arguments, jobs, cwd=tmp_path, prepare=kill_at_file_event(4, tmp_path / "s" / "1")
    )
    assert code == -signal.SIGKILL, output
    assert not (tmp_path / "s" / "1" / "results.json").exists()


@pytest.mark.slow
def test_a_sweep_goes_on_with_the_configuration_it_was_started_with(tmp_path: Path) -> None:
    own_config(tmp_path / "conf", 20)
    killed_sweep(tmp_path, "--config-dir", "conf", "--config-name", "mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, output = command(f"sweep.resume={tmp_path / 's'}", cwd=elsewhere)
    assert code == 0, output
    parameters = [results_of(tmp_path / "s" / job)["parameters"] for job in ("0", "1")]
    assert parameters == [784 * 20 + 20 + 20 * 10 + 10] * 2
    assert f"--config-dir={tmp_path / 'conf'}" in output


@pytest.mark.slow
def test_a_job_that_composes_to_another_configuration_is_refused(tmp_path: Path) -> None:
    own_config(tmp_path / "conf", 20)
    killed_sweep(tmp_path, "--config-dir", "conf", "--config-name", "mine")
    before = (tmp_path / "s" / "0" / "results.json").read_bytes()
    for changed, flags in ((30, ()), (20, ("--config-name", "config"))):
        own_config(tmp_path / "conf", changed)
        code, output = command(*flags, "sweep.resume=s", cwd=tmp_path)
        assert code == 1, output
        assert "model.hidden_sizes was [20] and is [" in output
        assert {row["status"] for row in table(tmp_path / "s")} == {"failed"}
        assert (tmp_path / "s" / "0" / "results.json").read_bytes() == before
        assert not (tmp_path / "s" / "1" / "results.json").exists()
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "s" / "0" / "results.json").read_bytes() == before
    saved = (tmp_path / "s" / "1" / ".hydra" / "config.yaml").read_text()
    assert "- 20\n" in saved  # not the refused one


@pytest.mark.slow
def test_finished_results_of_another_configuration_are_no_results_of_a_job(tmp_path: Path) -> None:
    killed_sweep(tmp_path)
    foreign = {**results_of(tmp_path / "s" / "0"), "config_hash": "0" * 64}
    write_results(tmp_path / "s" / "1", foreign)
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 1, output
    assert "holds the results of another configuration than job 1 has" in output
    assert results_of(tmp_path / "s" / "1") == foreign
    assert [row["status"] for row in table(tmp_path / "s")] == ["completed", "failed"]


@pytest.mark.slow
def test_a_shuffled_sweep_keeps_its_order(tmp_path: Path) -> None:
    killed_sweep(tmp_path, jobs="optimizer.lr=shuffle(0.1,0.2,0.3,0.4,0.5)")
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert "5 jobs: 5 completed" in output
    for row in table(tmp_path / "s"):
        saved = json.loads((tmp_path / "s" / ".jobs" / f"{row['job']}.json").read_text())
        assert f"optimizer.lr={row['optimizer.lr']}" in saved["overrides"]


def without_record(sweep_dir: Path) -> None:
    """Reduce a sweep's record to what older commits wrote."""
    saved = json.loads((sweep_dir / "sweep.json").read_text())
    kept = {key: saved[key] for key in ("overrides", "hydra_overrides", "params")}
    (sweep_dir / "sweep.json").write_text(json.dumps(kept))
    for path in (sweep_dir / ".jobs").iterdir():
        path.unlink()
    (sweep_dir / ".jobs").rmdir()


@pytest.mark.slow
def test_a_sweep_of_an_older_commit_goes_on(tmp_path: Path) -> None:
    own_config(tmp_path / "conf", 20)
    flags = ("--config-dir", "conf", "--config-name", "mine")
    killed_sweep(tmp_path, *flags)
    without_record(tmp_path / "s")
    before = (tmp_path / "s" / "0" / "results.json").read_bytes()
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 2
    assert "was started with --config-name=mine --config-dir=" in output
    code, output = command(*flags, "sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert "2 jobs: 2 completed" in output
    assert (tmp_path / "s" / "0" / "results.json").read_bytes() == before
    assert results_of(tmp_path / "s" / "1")["parameters"] == 784 * 20 + 20 + 20 * 10 + 10


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a killed sweep."""
    directory = tmp_path_factory.mktemp("killed")
    killed_sweep(directory)
    return directory / "s"


@pytest.mark.slow
@pytest.mark.parametrize(
    "link", ["multirun.yaml", "1/.hydra/config.yaml", "1/.hydra", "1", ".jobs"]
)
def test_a_link_in_a_foreign_sweep_leads_nowhere(tmp_path: Path, killed: Path, link: str) -> None:
    shutil.copytree(killed, tmp_path / "s")
    place = tmp_path / "s" / link
    victim = tmp_path / "victim"
    if place.is_dir():
        place.rename(victim)
    else:
        place.unlink(missing_ok=True)
        victim.write_text("mine")
    place.symlink_to(victim)
    before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert (code, f"{link}: needs trust=true" in output) == (2, True), output
    assert before == {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    assert victim.is_dir() or victim.read_text() == "mine"


@pytest.mark.slow
def test_hydras_files_stay_in_the_directory_of_their_job(tmp_path: Path) -> None:
    code, output = sweep("seed=1,2", "hydra.output_subdir=../../elsewhere", cwd=tmp_path)
    assert (code, "hydra.output_subdir=../../elsewhere: allowed is" in output) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["command.log"]
    code, output = sweep("seed=1,2", "hydra.output_subdir='as${hydra.job.num}'", cwd=tmp_path)
    assert code == 0, output
    (tmp_path / "s" / ".jobs" / "1.json").unlink()
    (tmp_path / "s" / "1" / "results.json").unlink()
    (tmp_path / "s" / "1" / "as1" / "config.yaml").unlink()
    code, output = command("sweep.resume=s", cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "s" / "1" / "as1" / "config.yaml").is_file()

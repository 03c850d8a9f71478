"""Run directories of version 0.1.0: listed, resumed and reproduced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf, open_dict

from mnist_exp.app.commands.view_results import main
from mnist_exp.run.results import finished_results
from mnist_exp.run.saved_config import (
    NEW_GROUPS,
    bring_up_to_date,
    has_hash,
    hash_config,
    load_config,
    training_config,
    without_old_behaviour,
)
from tests.conftest import Compose
from tests.helpers.fault_injection import command

OLD_RUNS = Path(__file__).parents[1] / "old_runs"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_old_runs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(OLD_RUNS), "--sort", "accuracy"]) == 0
    shown = capsys.readouterr().out
    _, _, finished, interrupted, *rest = shown.splitlines()
    assert finished.split()[:3] == ["55.41%", "55.68%", "mlp"]
    assert " 1,600       0.8      completed " in finished
    assert finished.endswith("finished")
    assert interrupted.split()[0] == "mlp100"
    assert " 1.8      interrupted " in interrupted
    assert f"resume={OLD_RUNS / 'interrupted'}" in "\n".join(rest)


def test_a_finished_old_run_has_all_that_a_run_of_today_has() -> None:
    old, results = (
        read_json(OLD_RUNS / "finished/results.json"),
        finished_results(OLD_RUNS / "finished"),
    )
    assert results is not None
    assert old["schema_version"] == 1
    (fold,) = results["folds"]
    assert results["accuracy"]["mean"] == fold["accuracy"] == old["test_accuracy"]
    assert fold["weights_sha256"] == old["weights_sha256"]
    assert fold["epochs"] == old["epochs"]


@pytest.mark.slow
def test_an_interrupted_old_run_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(OLD_RUNS / "interrupted", directory)
    code, output = command(f"resume={directory}", cwd=tmp_path)
    assert code == 0, output
    assert "fold 2 | resumes after 1 epoch and " in output
    assert "fold 1 | epoch" not in output  # fold 1 was finished
    written = read_json(directory / "results.json")
    assert (written["schema_version"], written["status"]) == (2, "completed")
    assert [fold["fold"] for fold in written["folds"]] == [1, 2]
    assert written["accuracy"]["n"] == 2
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [(row["fold"], row["epoch"]) for row in rows] == [
        *((1, epoch) for epoch in (1, 2, 3)),
        *((2, epoch) for epoch in (1, 2, 3)),
    ]
    code, output = command(f"resume={directory}", cwd=tmp_path)
    assert code == 0, output
    assert "is finished already" in output


@pytest.mark.slow
def test_a_finished_old_run_is_reproduced_and_compared(tmp_path: Path) -> None:
    reference = OLD_RUNS / "finished"
    before = sorted(reference.rglob("*"))
    code, output = command(f"reproduce={reference}", "hydra.run.dir=again", cwd=tmp_path)
    results = finished_results(tmp_path / "again")
    assert results is not None, output
    comparison = results["reproduction"]
    # bits may differ between machines; the exit code reports it
    assert code == (0 if comparison["identical"] else 1), output
    said = "identical to" if comparison["identical"] else "differs from"
    assert f"{said} {reference}" in output
    old = finished_results(reference)
    assert old is not None
    assert results["accuracy"]["mean"] == pytest.approx(old["accuracy"]["mean"], abs=0.05)
    assert sorted(reference.rglob("*")) == before


def test_a_resumed_old_run_is_what_its_configuration_says() -> None:
    """The recorded hash equals that of the configuration as read now."""
    for name in ("finished", "interrupted"):
        config = load_config(OLD_RUNS / name, "resume")
        assert config.training.averaging_warmup is False  # added later
        assert hash_config(training_config(config)) == read_json(
            OLD_RUNS / name / "results.json"
        )["config_hash"]  # fmt: skip


def test_keys_that_an_old_configuration_lacks_mean_the_old_behaviour(
    compose_config: Compose,
) -> None:
    config = compose_config("model=mlp100", "training.averaging=0.9")
    older = config.copy()
    with open_dict(older):
        del older.training.averaging_warmup
    hash_then = hash_config(training_config(older))  # as before the key existed
    bring_up_to_date(older)
    assert older.training.averaging_warmup is False
    assert OmegaConf.is_struct(older)
    assert hash_config(training_config(older)) == hash_then
    assert hash_config(training_config(config)) != hash_then  # averages with a warm-up
    bring_up_to_date(config)
    assert config.training.averaging_warmup is True  # set keys stay


def test_a_group_that_an_old_configuration_lacks_means_the_old_behaviour(
    compose_config: Compose,
) -> None:
    config = compose_config()
    older = config.copy()
    with open_dict(older):
        for group in NEW_GROUPS:
            del older[group]
    assert training_config(older) == training_config(config)
    bring_up_to_date(older)
    assert all(older[group] == config[group] for group in NEW_GROUPS)
    for changed in ("loss=focal", "loss.weight=[1,1]", "metrics=top2", "+loss.label_smoothing=0"):
        assert training_config(compose_config(changed)) != training_config(config)


def test_a_key_that_was_written_out_is_the_old_behaviour_too(compose_config: Compose) -> None:
    config = compose_config("training.averaging=0.9", "training.averaging_warmup=false")
    written_out: Any = OmegaConf.to_container(config, resolve=True)
    for key in ("resume", "reproduce", "sweep", "trust"):
        del written_out[key]
    for key in ("weights", "strict"):
        del written_out["model"][key]
    for key in ("class_names", "transpose"):
        del written_out["data"][key]
    for key in ("elastic_alpha", "elastic_sigma", "noise"):
        del written_out["augmentation"][key]
    del written_out["plots"]["format"]
    for group in NEW_GROUPS:
        del written_out[group]
    written_out["tracker"] = {"_target_": None}  # one, without a name
    written_out["plots"]["enabled"], written_out["checkpoints"]["keep"] = True, 5  # null today
    assert without_old_behaviour(written_out) == training_config(config)
    assert hash_config(written_out) != hash_config(training_config(config))
    assert has_hash(training_config(config), hash_config(written_out))

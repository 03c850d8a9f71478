"""``mnist_exp evaluate-device RUN_DIR``, and the same at the end of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from torch import Generator, Tensor

import mnist_exp
from mnist_exp.app import commands
from mnist_exp.device.programmed import Drift
from mnist_exp.device.programmed.drift import Course
from mnist_exp.errors import UserError
from mnist_exp.experiment import run_experiment
from mnist_exp.run.results import read_results
from tests.conftest import Compose

SMALL = (
    "model=mlp",
    "model.hidden_sizes=[8]",
    "training.epochs=1",
    "data.subset=2000",
    "plots.enabled=false",
    "report.enabled=false",
)
SHORT = ("evaluation.times=[1s,1d]", "evaluation.repetitions=2")
FILES = [f"device_evaluation{ending}" for ending in (".csv", ".json", ".png")]
Capture = pytest.CaptureFixture[str]


class Gone(Drift):
    """Nothing is left after some time."""

    def __init__(self, after: float) -> None:
        self.after = after

    def start(self, programmed: Tensor, target: Tensor, generator: Generator) -> Course:
        return lambda seconds: programmed * float(seconds < self.after)


@pytest.fixture(scope="module")
def runs(compose_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of a float run, of one with folds, and of one trained on devices."""
    kinds = {
        "float": ("cv=holdout", "cv.test=200", "optimizer.lr=0.02"),
        "folds": ("cv=kfold", "cv.n_splits=3"),
        "devices": ("cv=holdout", "cv.test=200", "constraint=memristor"),
    }
    made = {}
    for name, overrides in kinds.items():
        made[name] = tmp_path_factory.mktemp(name)
        run_experiment(compose_config(*SMALL, *overrides), made[name])
    return made


def evaluated(run: Path, output: Path, *arguments: str) -> Any:
    assert commands.run("evaluate-device", str(run), "--output", str(output), *arguments) == 0
    return json.loads((output / FILES[1]).read_text())


def refused(capsys: Capture, *arguments: object) -> str:
    assert commands.run("evaluate-device", *map(str, arguments)) == 2
    return capsys.readouterr().err


def test_ideal_devices_have_the_accuracy_of_the_run(runs: dict[str, Path], tmp_path: Path) -> None:
    for directory in runs.values():
        found = evaluated(directory, tmp_path, "evaluation=ideal", *SHORT)
        results = read_results(directory)
        assert results is not None
        assert found["as_trained"] == results["accuracy"]
        for row in found["times"]:
            assert row["accuracy"]["mean"] == pytest.approx(results["accuracy"]["mean"], abs=0.011)


def test_the_table_the_files_and_their_numbers(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    found = evaluated(runs["folds"], tmp_path, *SHORT)
    shown = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert shown[1].startswith("devices: programmed on pairs of devices")
    assert shown[2] == "drift compensation: global; BatchNorm as trained"
    assert "over 2 repetitions of each of 3 folds; as trained" in shown[3]
    assert shown[4].split() == ["time", "accuracy", "std", "over", "folds"]
    row = found["times"][1]
    assert (row["time"], row["seconds"], row["accuracy"]["n"]) == ("1d", 86_400, 6)
    assert shown[6].split()[:2] == ["1d", f"{row['accuracy']['mean']:.2%}"]
    with open(tmp_path / FILES[0]) as file:
        written = [r for r in csv.DictReader(file) if r["time"] == "1d"]
    accuracies = [value for fold in row["folds"] for value in fold["accuracies"]]
    assert [float(r["accuracy"]) for r in written] == accuracies
    assert found["evaluation"]["drift"]["t0"] == 20
    assert (tmp_path / FILES[2]).read_bytes().startswith(b"\x89PNG")


def test_in_python_it_finds_what_the_command_finds(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    by_command = evaluated(runs["folds"], tmp_path, *SHORT)
    printed = capsys.readouterr().out
    before = sorted(runs["folds"].iterdir())
    for run in (runs["folds"], mnist_exp.load_run(runs["folds"])):
        found = mnist_exp.evaluate_device(run, *SHORT)
        assert json.loads(json.dumps(found.record)) == by_command
        assert printed.startswith(f"{found}\n")
    assert sorted(runs["folds"].iterdir()) == before
    with open(tmp_path / FILES[0]) as file:
        written = [float(row["accuracy"]) for row in csv.DictReader(file)]
    assert list(pandas_free(found.table)) == written
    assert [text.get_text() for text in found.figure().axes[0].get_xticklabels()] == ["1s", "1d"]
    second = mnist_exp.evaluate_device(runs["folds"], *SHORT, fold=2)
    assert second.record["networks"] == 1
    with pytest.raises(UserError, match="epoch"):
        mnist_exp.evaluate_device(runs["folds"], *SHORT, epoch=7)


def pandas_free(table: Any) -> Any:
    """Return the accuracies of a table, with pandas or without."""
    return [row["accuracy"] for row in table] if isinstance(table, list) else table["accuracy"]


def test_the_same_seed_gives_the_same_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    first, again, other = (
        evaluated(runs["float"], tmp_path / name, *SHORT, *more)["times"]
        for name, more in (("1", ()), ("2", ()), ("3", ("evaluation.seed=1",)))
    )
    assert first == again
    assert first != other


def test_a_run_on_devices_keeps_them_unless_told_otherwise(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    kept = evaluated(runs["devices"], tmp_path, *SHORT)
    assert kept["devices"] == "as trained on devices, mapping=differential, g = G / W_max"
    new = evaluated(runs["devices"], tmp_path, *SHORT, "evaluation.program=true")
    assert new["devices"].startswith("programmed on pairs")


def test_what_is_not_done_to_kept_devices_is_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    setting = "evaluation.stuck_at_zero=0.5"
    reason = f"{setting}: the run's own devices are"
    assert reason in refused(capsys, runs["devices"], "--output", tmp_path / "new", setting)
    assert not (tmp_path / "new").exists()
    evaluated(runs["devices"], tmp_path, *SHORT, setting, "evaluation.program=true")


def test_kept_devices_may_be_read_through_wires(runs: dict[str, Path], tmp_path: Path) -> None:
    def accuracy(resistance: float) -> float:
        read = f"{{_target_: mnist_exp.device.ArrayReading, wire_resistance: {resistance}}}"
        settings = ("evaluation=ideal", f"evaluation.read={read}", *SHORT)
        found = evaluated(runs["devices"], tmp_path / str(resistance), *settings)
        return float(found["times"][0]["accuracy"]["mean"])

    assert accuracy(1e-2) < accuracy(1e-9) - 0.1


def test_products_may_be_read_from_arrays(runs: dict[str, Path], tmp_path: Path) -> None:
    exact = evaluated(runs["float"], tmp_path / "exact", "evaluation=ideal", *SHORT)
    loud = "{_target_: mnist_exp.device.ArrayReading, output_noise: 30.0}"
    read = f"evaluation.read={loud}"
    found = evaluated(runs["float"], tmp_path / "read", "evaluation=ideal", read, *SHORT)
    accuracies = [value for row in found["times"] for value in row["folds"][0]["accuracies"]]
    assert max(accuracies) < exact["times"][0]["accuracy"]["mean"] - 0.2
    assert len(set(accuracies)) > 1  # each test has noise of its own
    assert found["evaluation"]["read"]["output_noise"] == 30


def test_a_run_that_was_read_may_be_tested_with_exact_products(
    compose_config: Compose, tmp_path: Path
) -> None:
    read = ("constraint/read=analog", "constraint.read.output_noise=30")
    config = compose_config(*SMALL, "constraint=analog", "cv=holdout", "cv.test=200", *read)
    run_experiment(config, tmp_path / "run")
    kept = (*SHORT, "evaluation=ideal")
    as_trained = evaluated(tmp_path / "run", tmp_path / "as_trained", *kept)
    exact = evaluated(tmp_path / "run", tmp_path / "exact", *kept, "evaluation.read=exact")
    means = [found["times"][0]["accuracy"]["mean"] for found in (as_trained, exact)]
    assert means[1] > means[0] + 0.05
    assert exact["times"][0]["accuracy"]["std"] == 0  # nothing is left to chance


def test_a_place_that_cannot_be_written_to_is_refused_before_the_tests(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "below"
    assert "cannot be written to" in refused(capsys, runs["float"], "--output", output, *SHORT)


def test_a_drift_of_ones_own(runs: dict[str, Path], tmp_path: Path) -> None:
    drift = f"evaluation.drift={{_target_: {__name__}.Gone, after: 10}}"
    found = evaluated(runs["float"], tmp_path, "evaluation=ideal", drift, *SHORT)
    before, after = (row["accuracy"]["mean"] for row in found["times"])
    assert before == found["as_trained"]["mean"]
    assert after < 0.3  # a bias decides


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("evaluation.times=[1h,1s]",), "evaluation.times=['1h', '1s']: allowed is a list of inc"),
        (("evaluation.times=[1h,2]",), "evaluation.times=['1h', 2]: allowed is"),
        (("evaluation.times=[1fortnight]",), "a unit each: s, min, h, d, mo"),
        (("evaluation.times=[0s]",), "increasing times above 0"),
        (("evaluation.times=[-1s]",), "increasing times above 0"),
        (("evaluation.times=[1e400s]",), "increasing times above 0"),
        (("~evaluation",), "~evaluation: a test on devices takes evaluation=OPTION"),
        (
            ("evaluation.repetitions=0",),
            "evaluation.repetitions=0: allowed is a whole number of at",
        ),
        (("evaluation.drift.nu=3",), "evaluation.drift.nu"),
        (
            ("evaluation.read=exactly",),
            "evaluation.read=exactly: allowed is exact, null, or a class",
        ),
        (("evaluation=nope",), "evaluation=nope: there is no such option"),
        (("evaluation.read={_target_: mnist_exp.cv.Holdout}",), "evaluation.read: a Holdout is no"),
        (("data=mnist",), "data=mnist: a test on devices takes evaluation=OPTION"),
        (("--nope",), "--nope: a test on devices takes"),
        (("evaluation.program=false",), "evaluation.program=false: the run has no devices"),
        (("evaluation.reestimate_batch_norm=true",), "MLP has no BatchNorm"),
        (("--fold", "2"), "fold=2: "),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(
    arguments: tuple[str, ...], reason: str, runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    before = sorted(runs["float"].iterdir())
    told = refused(capsys, runs["float"], "--output", tmp_path / "new", *arguments)
    assert reason in told
    assert told.count("error:") == 1
    assert not (tmp_path / "new").exists()
    assert sorted(runs["float"].iterdir()) == before


def test_a_directory_without_a_run(tmp_path: Path, capsys: Capture) -> None:
    assert f"RUN_DIR={tmp_path}: is not a run directory" in refused(capsys, tmp_path)


def test_at_the_end_of_a_run(
    compose_config: Compose, runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    overrides = (*SMALL, "cv=holdout", "cv.test=200", "optimizer.lr=0.02")
    results = run_experiment(
        compose_config(*overrides, "callbacks=device_evaluation", *SHORT), tmp_path / "run"
    )
    assert "drift compensation: global" in capsys.readouterr().out
    by_command = evaluated(tmp_path / "run", tmp_path / "again", *SHORT)
    at_the_end = json.loads((tmp_path / "run" / FILES[1]).read_text())
    assert at_the_end == by_command
    plain = read_results(runs["float"])
    assert plain is not None
    assert plain["config_hash"] == results["config_hash"]  # it is no part of the training


@pytest.mark.parametrize("wrong", ["program=false", "reestimate_batch_norm=true"])
def test_a_run_says_before_training_what_it_cannot_test(
    wrong: str, compose_config: Compose, tmp_path: Path
) -> None:
    config = compose_config(*SMALL, "evaluation=pcm", f"evaluation.{wrong}")
    with pytest.raises(UserError, match=rf"evaluation\.{wrong}"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()

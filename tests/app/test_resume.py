"""An interrupted run resumes to bitwise the result of an uninterrupted one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from mnist_exp.app.commands.view_results import main
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.run.checkpoints import load_checkpoint, save_checkpoint
from mnist_exp.run.results import read_results, write_results
from tests.helpers.fault_injection import (
    CNN,
    KFOLD,
    SMALL,
    command,
    composed,
    few_images,
    flip_bit,
    outcome,
    run_in_process,
    without_times,
)

ONE_SPLIT = ("cv=none", "data.subset=100", *SMALL)
VALIDATED = ("cv.validation=100", "data.subset=100", *SMALL)
RUNS = {
    "mlp100 k-fold": KFOLD,
    "mlp300": ("model=mlp300", *VALIDATED),
    "mlp with dropout": ("model=mlp", "model.dropout=0.5", *VALIDATED),
    "cnn21k": CNN,
    "cnn21k averaged, light augmentation": (
        *("training.averaging=0.9", "augmentation=light", "training.precision=bf16"),
        *CNN,
    ),
    "cnn20k": ("model=cnn20k", "cv.validation=50", "data.subset=100", *SMALL),
    "clip": ("model=mlp100", "constraint=clip", *ONE_SPLIT),
    "published": ("model=mlp100", "constraint=published", *ONE_SPLIT),
    "memristor": ("model=mlp100", "constraint=memristor", *ONE_SPLIT),
    "accumulator, device variation, noise": (
        *("model=mlp100", "constraint=memristor", "constraint.rounding=accumulate"),
        *("constraint.bound_variation=0.05", "constraint.rate_variation=0.1"),
        *("constraint.stuck_at_min=0.01", *ONE_SPLIT),
    ),
    "pulses on a cnn": (
        *("model=cnn21k", "constraint=memristor", "constraint.pulse_rounding=stochastic"),
        *("constraint.rounding=straight_through", "constraint.write_noise=0.1", *ONE_SPLIT),
    ),
    "gradients": (
        *("gradients=epoch", "gradients.at_start=true", "model=mlp100"),
        *ONE_SPLIT,
    ),
    "gradients of batches": ("gradients=batch", "model=mlp100", *ONE_SPLIT),
}


class StopAfter(StopSignals):
    """Stop at the n-th check, as a signal would: after each batch and at later epochs' ends."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted(15)


def run_in_pieces(config: DictConfig, directory: Path, pieces: list[int]) -> None:
    for checks in pieces:
        with pytest.raises(Interrupted):
            run_experiment(config, directory, StopAfter(checks))
        results = read_results(directory)
        assert results is not None
        assert (results["status"], results["error"]) == ("interrupted", "stopped by SIGTERM")
    run_experiment(config, directory)


def gradient_files(directory: Path) -> dict[str, bytes]:
    found = directory.rglob("gradients/**/*.npy")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_pieces_make_the_same_whole(tmp_path: Path, name: str) -> None:
    config = composed(*RUNS[name])
    run_experiment(config, tmp_path / "whole")
    # stops amid epoch 1, at its last batch, and at the end of epoch 2 (of the first fold)
    run_in_pieces(config, tmp_path / "pieces", [2, 2 if "batches" not in name else 4, 5])
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")
    assert gradient_files(tmp_path / "pieces") == gradient_files(tmp_path / "whole")
    assert "gradients" not in name or gradient_files(tmp_path / "whole") != {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_experiment(composed(*KFOLD), directory)
    return directory


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        run_experiment(composed(*KFOLD), directory, StopAfter(16))
    return directory


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A k-fold run stopped in the second epoch of its second fold."""
    return shutil.copytree(stopped_once, tmp_path / "run")


class AnySplit:
    """Folds that differ each time they are drawn."""

    def split(self, X: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng().permutation(len(X))
        for held_out in np.array_split(order, 2):
            yield np.setdiff1d(order, held_out), np.sort(held_out)


UNSEEDED = ("cv.random_state=null",)
RANDOM = ("cv._target_=tests.app.test_resume.AnySplit", "~cv.n_splits", "~cv.shuffle")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_folds_are_drawn_once_however_many_train_side_by_side(tmp_path: Path, jobs: int) -> None:
    config = composed(
        *KFOLD, *UNSEEDED, f"cv.n_jobs={jobs}", "plots.enabled=false", "report.enabled=false"
    )
    results = run_experiment(config, tmp_path / "run")
    seeded = composed(*KFOLD, "cv.random_state=0", "cv.n_jobs=1")
    expected = run_experiment(seeded, tmp_path / "seeded")
    for key in ("splits_sha256", "accuracy", "folds"):
        assert without_times(results[key]) == without_times(expected[key])


def test_processes_train_on_the_folds_that_are_tested(tmp_path: Path) -> None:
    config = composed(*KFOLD, *RANDOM, "~cv.random_state", "cv.n_jobs=2")
    results = run_experiment(config, tmp_path)
    splits = {
        torch.load(tmp_path / f"checkpoints/fold_{fold}/best.pt")["split_sha256"] for fold in (1, 2)
    }
    assert len(splits) == 2
    assert results["status"] == "completed"
    with pytest.raises(UserError, match=r"was trained on another split: .*\(cv\.random_state\)"):
        run_experiment(config, tmp_path)


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_says_nothing_of_its_split(stopped: Path) -> None:
    for path in stopped.rglob("epoch_*.pt"):
        content = load_checkpoint(path)
        del content["split_sha256"], content["schema_version"]
        save_checkpoint(path, content)
    run_experiment(composed(*KFOLD), stopped)
    assert results_of(stopped)["status"] == "completed"


def test_finished_folds_are_not_trained_again(stopped: Path) -> None:
    first = stopped / "checkpoints" / "fold_1"
    before = {path: path.stat().st_mtime_ns for path in first.glob("epoch*")}
    run_experiment(composed(*KFOLD), stopped)
    assert {path: path.stat().st_mtime_ns for path in first.glob("epoch*")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("checkpoints/fold_2/epoch_00001_partial.pt", "cut"),
        ("checkpoints/fold_2/epoch_00001_partial.pt", "flip"),
        ("checkpoints/fold_2/epoch_00001.pt", "flip"),
        ("checkpoints/fold_1/epoch_00002.pt", "flip"),
        ("checkpoints/fold_1/best.pt", "cut"),
        ("results.json", "flip"),
        ("results.json", "cut"),
        ("results.json", "delete"),
        ("metrics.jsonl", "cut"),
        ("metrics.jsonl", "flip"),
        ("metrics.jsonl", "delete"),
        ("checkpoints", "delete"),
    ],
)
def test_damage_costs_no_more_than_time(
    whole: Path, stopped: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    path = stopped / name
    if damage == "delete":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        flip_bit(path, path.stat().st_size // 2)
    run_experiment(composed(*KFOLD), stopped)
    assert outcome(stopped) == outcome(whole)
    told = capsys.readouterr()
    if "epoch" in name and name != "checkpoints/fold_2/epoch_00001.pt":  # only the newest is read
        assert f"{path}: the content does not match its checksum" in told.err
    if name == "results.json" and damage != "delete":
        assert f"warning: {path}: " in told.err
    if name == "checkpoints":
        assert "training starts from the beginning" in told.out


def test_damaged_results_of_a_finished_run_are_written_anew(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    flip_bit(tmp_path / "run" / "results.json", 500)
    run_experiment(composed(*KFOLD), tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.slow
def test_other_settings_are_refused_by_name(stopped: Path) -> None:
    for override, told in {
        "optimizer.lr=0.2": "optimizer.lr was 0.1 and is 0.2 now",
        "model.hidden_sizes=[50]": r"model.hidden_sizes was \[100\] and is \[50\] now",
        "seed=1": "seed was 0 and is 1 now",
        "training.epochs=1": "training.epochs was 2 and is 1 now",
    }.items():
        with pytest.raises(UserError, match=rf"{told}\. Only training\.epochs may be raised"):
            run_experiment(composed(*KFOLD, override), stopped)


def test_a_checkpoint_of_another_fold_or_of_other_data_is_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = stopped / "checkpoints"
    shutil.copy(folds / "fold_1" / "epoch_00002.pt", folds / "fold_2" / "epoch_00002.pt")
    with pytest.raises(UserError, match=r"fold_2/epoch_00002\.pt: is of fold 1, not 2"):
        run_experiment(composed(*KFOLD), stopped)
    monkeypatch.setattr("mnist_exp.experiment.fold.sha256", lambda dataset: "0" * 64)
    with pytest.raises(UserError, match="was trained on other data"):
        run_experiment(composed(*KFOLD), stopped)


def test_extended_epochs_give_the_result_of_a_longer_run(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "extended")
    longer = composed(*KFOLD, "training.epochs=3")
    run_experiment(longer, tmp_path / "extended")
    run_experiment(longer, tmp_path / "whole")
    assert outcome(tmp_path / "extended") == outcome(tmp_path / "whole")


def test_epochs_are_not_extended_under_a_schedule_that_follows_them(tmp_path: Path) -> None:
    run_experiment(composed(*CNN), tmp_path)
    with pytest.raises(UserError, match=r"cannot be extended from 2 epochs.*scheduler\.total"):
        run_experiment(composed(*CNN, "training.epochs=3"), tmp_path)


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    code, output = command(*few_images(), *KFOLD, "hydra.run.dir=run", cwd=directory)
    assert code == 0, output
    return directory


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """The directory of a run of the command line, finished, under ``run``."""
    return shutil.copytree(saved_once, tmp_path, dirs_exist_ok=True)


def results_of(directory: Path) -> dict[str, Any]:
    results = read_results(directory)
    assert results is not None
    return results


@pytest.mark.slow
def test_resume_extends_and_refuses_from_the_command_line(saved: Path) -> None:
    def resumed(*arguments: str) -> tuple[int, str]:
        return command("resume=run", *arguments, cwd=saved)

    before = (saved / "run" / "results.json").read_bytes()
    code, output = resumed()
    assert code == 0
    assert "run is finished already" in output
    for arguments, told in {
        ("optimizer.lr=0.2",): "optimizer.lr was 0.1 and is 0.2 now",
        ("model=cnn20k",): "model=cnn20k does not go together with the settings",
        ("model=mlp300", "cv=stratified_kfold"): " more. Only training.epochs may be raised",
        ("training.epochs=1",): "training.epochs was 2 and is 1 now",
        ("reproduce=run",): "give one of them",
        ("hydra.run.dir=elsewhere",): "hydra.run.dir=elsewhere: resume=run goes on in that run's",
    }.items():
        code, output = resumed(*arguments)
        assert (code, told in output, "Traceback" in output) == (2, True, False), output
    assert (saved / "run" / "results.json").read_bytes() == before
    assert not (saved / "elsewhere").exists()
    code, output = resumed("training.epochs=3")
    assert code == 0, output
    assert [len(fold["epochs"]) for fold in results_of(saved / "run")["folds"]] == [3, 3]
    code, output = resumed("training.epochs=2")  # the run has 3 already
    assert (code, "training.epochs was 3 and is 2 now" in output) == (2, True)
    code, output = resumed()
    assert (code, "finished already" in output) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resume", "reproduce"])
def test_an_empty_name_is_no_run_though_the_working_directory_is_one(saved: Path, key: str) -> None:
    code, output = command(f"{key}=", cwd=saved / "run")
    assert (code, output) == (2, f"error: {key}=: names no run. Give the run's directory: "
                                 f"{key}=RUN_DIR.\n")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", ["no directory", "no configuration", "never began", "cut", "nonsense"]
)
def test_a_directory_that_cannot_be_resumed_is_refused_and_left_alone(
    saved: Path, damage: str
) -> None:
    config = saved / "run" / "config.yaml"
    if damage == "no directory":
        shutil.rmtree(saved / "run")
    elif damage == "no configuration":
        shutil.rmtree(saved / "run" / ".hydra")
        config.unlink()
    elif damage == "never began":
        shutil.rmtree(saved / "run" / "checkpoints")
        (saved / "run" / "results.json").unlink()
    else:
        config.write_text("data:\n  - [" if damage == "cut" else "a: 1")
    before = sorted(saved.rglob("*"))
    for key in ("resume", "reproduce"):
        code, output = command(f"{key}=run", cwd=saved)
        assert code == 2, output
        assert output.startswith(f"error: {key}=run: ")
        assert "Traceback" not in output
    assert sorted(saved.rglob("*")) == before
    assert main([str(saved)]) == 0  # the table still lists runs


@pytest.mark.slow
def test_reproduce_tells_an_identical_run_from_a_different_one(saved: Path) -> None:
    code, output = command("reproduce=run", "hydra.run.dir=again", cwd=saved)
    assert code == 0, output
    assert "identical to " in output
    assert outcome(saved / "again")["results"].pop("reproduction")["identical"]
    code, output = command("reproduce=run", "seed=1", cwd=saved)
    assert (code, "seed was 0 and is 1 now" in output) == (2, True)

    results = results_of(saved / "run")
    results["folds"][1]["weights_sha256"] = "0" * 64
    results["versions"]["torch"] = "1.0"
    write_results(saved / "run", results)
    code, output = command("reproduce=run", "hydra.run.dir=third", cwd=saved)
    assert code == 1
    assert "differs from " in output
    assert "fold 2: weights_sha256 was 000000000000... and is " in output
    assert "version torch was 1.0 and is " in output


def test_an_unfinished_run_cannot_be_reproduced(stopped: Path) -> None:
    code, output = command(f"reproduce={stopped}", cwd=stopped.parent)
    assert code == 2
    assert "that run is interrupted, so there is nothing to compare with. Finish it" in output


def test_changes_since_the_start_are_reported(stopped: Path) -> None:
    write_results(stopped, results_of(stopped) | {"threads": 64, "git_commit": "an older one"})
    code, output = run_in_process(composed(*KFOLD), stopped)
    assert code == 0, output
    assert "since this run was started, threads was 64 and is 1" in output
    assert "git commit was an older one and is" in output
    metrics = (stopped / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == [1, 2, 1, 2]

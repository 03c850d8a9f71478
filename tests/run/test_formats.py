"""Files with valid checksums and wrong content: refused by file and key, or shown as damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mnist_exp.app.commands.view_results import main
from mnist_exp.errors import UserError
from mnist_exp.files.atomic import finite, write_json
from mnist_exp.run.overview import read_overview
from mnist_exp.run.report import summary_lines
from mnist_exp.run.reproduction import compare
from mnist_exp.run.results import finished_results, read_results, write_results
from tests.mutations import mutated

FOLD = {
    "fold": 1,
    "accuracy": 0.5,
    "loss": 1.0,
    "selected_epoch": 1,
    "wall_seconds": 2.0,
    "epochs": [{"epoch": 1, "train_loss": 1.0}],
}
RESULTS: dict[str, Any] = {
    "status": "completed",
    "model": "mlp",
    "data": "MNIST",
    "class_names": ["a", "b"],
    "seed": 0,
    "config_hash": "0" * 64,
    "selection_rule": "last epoch",
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "versions": {"torch": "2"},
    "parameters": 10,
    "samples_per_second": 5.0,
    "wall_seconds": 2.0,
    "confusion_matrix": [[1, 0], [2, 3]],
}
REPRODUCTION = {"reference": "x", "identical": False, "result": ["a"], "environment": []}
NUMBER = {"mean": 0.5, "std": None, "n": 1}
ONE_SPLIT = RESULTS | {
    "accuracy": NUMBER,
    "loss": NUMBER,
    "per_class_accuracy": [0.5, None],
    "folds": [FOLD],
    "reproduction": REPRODUCTION,
}
SPREAD = {"mean": 0.5, "std": 0.1, "n": 2}
FOLDS = ONE_SPLIT | {"accuracy": SPREAD, "loss": SPREAD, "folds": [FOLD, FOLD | {"fold": 2}]}
ONE_SPLIT_1 = RESULTS | {
    "selected_epoch": 1,
    "test_accuracy": 0.5,
    "test_loss": 1.0,
    "per_class_accuracy": [0.5, None],
    "epochs": [{"epoch": 1, "validation_accuracy": 0.7}],
    "reproduction": REPRODUCTION,
}
FOLDS_1 = RESULTS | {
    "mean_accuracy": 0.5,
    "std_accuracy": 0.1,
    "folds": [FOLD, FOLD | {"fold": 2, "loss": 2.0}],
}


def write_version_1(directory: Path, results: dict[str, Any]) -> None:
    """Write results in the format of version 0.1.0."""
    content = {"schema_version": 1, **finite(results)}
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    write_json(directory / "results.json", {**content, "checksum": checksum})


@pytest.mark.slow
@settings(max_examples=200)
@given(results=mutated(ONE_SPLIT) | mutated(FOLDS))
def test_any_results_with_a_checksum_are_shown_refused_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, results: Any
) -> None:
    directory = tmp_path_factory.mktemp("results") / "run"
    write_results(directory, results)
    check_reading(directory)


@settings(max_examples=200)
@given(results=mutated(ONE_SPLIT_1) | mutated(FOLDS_1) | mutated(FOLDS_1 | ONE_SPLIT_1))
def test_any_results_of_version_1_are_shown_refused_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, results: Any
) -> None:
    directory = tmp_path_factory.mktemp("results") / "run"
    write_version_1(directory, results)
    check_reading(directory)


def check_reading(directory: Path) -> None:
    assert main([str(directory)]) == 0
    finished = finished_results(directory)
    if finished is None:
        with contextlib.suppress(UserError):  # but no other exception
            read_results(directory)
    else:
        assert all(line.isprintable() for line in summary_lines(finished, directory))
        compare(str(directory), ONE_SPLIT)
        compare(str(directory), FOLDS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "finished"}, "status is 'finished'; allowed is running or completed or"),
        ({"accuracy": NUMBER | {"mean": "98 %"}}, "accuracy.mean is '98 %'; allowed is a number, "),
        ({"parameters": [1]}, "parameters is of type list; allowed is a whole number of at l"),
        ({"wall_seconds": -1}, "wall_seconds is -1; allowed is a number, at least 0"),
        ({"folds": [FOLD, {**FOLD, "loss": None}]}, r"folds\[1\].loss is None; allowed is a num"),
        ({"model": {"a": 1}}, "model is of type dict; allowed is a text"),
        ({"loss": NUMBER | {"n": 0}}, "loss.n is 0; allowed is a whole number of at least 1"),
    ],
)
def test_wrong_content_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    write_results(tmp_path, ONE_SPLIT | change)
    with pytest.raises(UserError, match=f"results.json: is damaged: {reason}"):
        read_results(tmp_path)
    entry = read_overview(tmp_path)
    assert entry.status == "damaged"
    assert reason.partition(";")[0].replace("\\", "") in entry.error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"test_accuracy": "98 %"},
            "test_accuracy is '98 %'; allowed is null or a number, from 0 to 1",
        ),
        ({"epochs": [{}]}, r"epochs\[0\].epoch is missing"),
        ({"mean_accuracy": 98}, "mean_accuracy is 98; allowed is null or a number, from 0 to 1"),
        ({"folds": [FOLD, {**FOLD, "loss": None}]}, r"folds\[1\].loss is None; allowed is a num"),
        (
            {"folds": [FOLD | {"loss": 1.7e308}, FOLD | {"loss": -1.7e308}]},
            "its numbers are too large",
        ),
    ],
)
def test_wrong_content_of_version_1_is_refused_by_its_own_keys(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    write_version_1(tmp_path, ONE_SPLIT_1 | change)
    with pytest.raises(UserError, match=f"results.json: is damaged: {reason}"):
        read_results(tmp_path)


def test_one_split_of_version_1_is_read_as_one_fold(tmp_path: Path) -> None:
    write_version_1(tmp_path, ONE_SPLIT_1 | {"weights_sha256": "0"})
    results = finished_results(tmp_path)
    assert results is not None
    assert results["accuracy"] == {"mean": 0.5, "std": None, "n": 1}
    assert results["loss"] == {"mean": 1.0, "std": None, "n": 1}
    (fold,) = results["folds"]
    assert fold == {
        "fold": 1,
        "seed": 0,
        "selected_epoch": 1,
        "accuracy": 0.5,
        "loss": 1.0,
        "per_class_accuracy": [0.5, None],
        "confusion_matrix": [[1, 0], [2, 3]],
        "weights_sha256": "0",
        "wall_seconds": 2.0,
        "epochs": [{"epoch": 1, "validation_accuracy": 0.7}],
    }
    assert not {"test_accuracy", "test_loss", "selected_epoch", "epochs"} & results.keys()
    assert read_overview(tmp_path).validation == 0.7


def test_folds_of_version_1_are_read_as_those_of_version_2(tmp_path: Path) -> None:
    write_version_1(tmp_path, FOLDS_1)
    results = finished_results(tmp_path)
    assert results is not None
    assert results["accuracy"] == {"mean": 0.5, "std": 0.1, "n": 2}
    assert results["loss"] == {"mean": 1.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert results["per_class_accuracy"] == [1.0, 0.6]
    assert results["folds"] == FOLDS_1["folds"]
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


def test_results_of_version_1_without_numbers_are_read_too(tmp_path: Path) -> None:
    """Runs that failed, were interrupted or are still running have no numbers."""
    facts = {key: ONE_SPLIT_1[key] for key in ("model", "seed", "config_hash")}
    for status in ("failed", "interrupted", "running"):
        write_version_1(tmp_path, {"status": status, "error": "why", **facts})
        assert read_results(tmp_path) == {"status": status, "error": "why", **facts}


def test_the_view_of_folds_has_their_mean_validation_accuracy(tmp_path: Path) -> None:
    folds = [
        FOLD | {"epochs": [{"epoch": 1, "validation_accuracy": accuracy}]}
        for accuracy in (0.5, 0.7)
    ]
    write_results(tmp_path, FOLDS | {"folds": folds})
    run = read_overview(tmp_path)
    assert run.validation == pytest.approx(0.6)
    assert (run.status, run.model, run.accuracy, run.std) == ("completed", "mlp", 0.5, 0.1)
    write_results(tmp_path, FOLDS)
    assert read_overview(tmp_path).validation is None


def test_a_completed_run_that_lacks_numbers_is_not_taken_for_finished(tmp_path: Path) -> None:
    for key in ("accuracy", "loss", "folds", "class_names", "confusion_matrix"):
        write_results(tmp_path, {k: v for k, v in ONE_SPLIT.items() if k != key})
        assert finished_results(tmp_path) is None
    for key in ("test_accuracy", "test_loss", "class_names", "confusion_matrix"):
        write_version_1(tmp_path, {k: v for k, v in ONE_SPLIT_1.items() if k != key})
        assert finished_results(tmp_path) is None
    write_results(tmp_path, FOLDS | {"folds": [FOLD]})
    assert finished_results(tmp_path) is None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def two_gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def text(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in ("results.json", ".lock") for damage in (pipe, device)),
        *(("results.json", damage) for damage in (two_gigabytes, deep, dangling, Path.mkdir)),
        (".lock", lambda path: path.symlink_to("../mine")),
        (".lock", Path.mkdir),
    ],
)
def test_one_hostile_entry_is_one_damaged_row(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    damage: Callable[[Path], Any],
) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("sound", "hostile"):
        write_results(tmp_path / name, ONE_SPLIT)
        (tmp_path / name / ".hydra").mkdir()
        (tmp_path / name / ".hydra" / "config.yaml").touch()
    (tmp_path / "hostile" / file).unlink(missing_ok=True)
    damage(tmp_path / "hostile" / file)
    assert main([str(tmp_path), "--sort", "accuracy"]) == 0
    sound, hostile = capsys.readouterr().out.splitlines()[2:4]
    assert "completed" in sound
    assert ("damaged" if damage is not dangling else "dead") in hostile
    assert (tmp_path / "mine").read_text() == "mine"


def test_names_reach_the_terminal_without_their_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = tmp_path / "\x1b[2Jrun\udcff"
    write_results(hostile, ONE_SPLIT | {"model": "\x1b]0;title\x07", "class_names": ["\x9b", "b"]})
    write_results(tmp_path / "failed", {"status": "failed", "error": "\x1b[31m" * 1000})
    os.utime(hostile / "results.json", (1 << 40, 1 << 40))
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.splitlines())
    assert r"\x1b[2Jrun\udcff" in shown
    finished = finished_results(hostile)
    assert finished is not None
    assert all(line.isprintable() for line in summary_lines(finished, hostile))


def test_a_lock_that_is_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    from mnist_exp.run.lock import DirectoryLock, is_locked

    own = tmp_path / "own"
    own.write_bytes(b"mine")
    for name, make in (("symbolic", Path.symlink_to), ("hard", Path.hardlink_to)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / ".lock", own)
        with pytest.raises(UserError, match=r"\.lock: (is not a regular file|other paths lead)"):
            DirectoryLock(tmp_path / name)
    with pytest.raises(UserError, match=r"\.lock: is not a regular file"):
        is_locked(tmp_path / "symbolic")
    assert own.read_bytes() == b"mine"


def test_results_of_any_json_are_refused(tmp_path: Path) -> None:
    contents: list[Any] = [[], "text", None, 3, {"checksum": [1]}, {"schema_version": {}}]
    for content in contents:
        (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"results\.json"):
            read_results(tmp_path)

"""What all trackers share: no failure and no slowness of theirs reaches the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mnist_exp.errors import UserError
from mnist_exp.interruption import STOPPING
from mnist_exp.trackers import TrackedRun, Tracker
from mnist_exp.trackers import worker as worker_module
from mnist_exp.trackers.tracker import final_numbers
from mnist_exp.trackers.worker import Worker
from mnist_exp.train.callback import Callback
from tests.trackers.conftest import FOLDS, Train

METHODS = ("prepare", "start", "log", "image", "artefact", "finish", "where")
HERE = "tests.trackers.test_tracker"
NO_PLOTS = "plots.enabled=false"


class Memory(Tracker):
    """Keep every call."""

    calls: ClassVar[list[tuple[str, Any]]] = []

    def start(self, run: TrackedRun) -> None:
        self.calls.append(("start", run))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.calls.append(("log", (dict(metrics), step)))

    def image(self, path: Path) -> None:
        self.calls.append(("image", path))

    def artefact(self, path: Path) -> None:
        self.calls.append(("artefact", path))

    def finish(self, results: Mapping[str, float], status: str) -> None:
        self.calls.append(("finish", (dict(results), status)))

    def where(self) -> str:
        return "in memory"


class Broken(Tracker):
    """Raise an exception in one method, or in all."""

    def __init__(self, method: str = "all") -> None:
        for name in METHODS if method == "all" else [method]:
            setattr(self, name, self.explode)

    def explode(self, *arguments: Any) -> None:
        raise OSError("no route to host")


class BrokenCallback(Callback):
    """A tracker that is a callback only, and fails at the first batch."""

    def on_batch_end(self, state: Any, loss: Any) -> None:
        raise OSError("no route to host")


class Stuck(Tracker):
    """Never come back from a method."""

    patience = 0.3

    def __init__(self, method: str = "start") -> None:
        setattr(self, method, lambda *arguments: threading.Event().wait())


class NeedsNothingThatExists(Tracker):
    package: ClassVar = "no_such_package"
    extra: ClassVar = "nothing"


@pytest.fixture(autouse=True)
def _forget() -> None:
    Memory.calls.clear()


def hold(release: threading.Event) -> None:
    """Be as slow as the test wants."""
    release.wait()


def kinds() -> list[str]:
    """The kinds of calls, repetitions left out."""
    names = [name for name, _ in Memory.calls]
    return [name for before, name in zip([None, *names], names, strict=False) if name != before]


def test_a_run_is_one_run_of_the_tracker(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = train(f"+tracker.mine._target_={HERE}.Memory")
    assert kinds() == ["start", "log", "artefact", "image", "finish"]
    run = Memory.calls[0][1]
    assert (run.name, run.group, run.fold, run.step) == ("run", None, None, 0)
    assert run.config["training.epochs"] == 2
    logged = [value for name, value in Memory.calls if name == "log"]
    steps = [row for row, _ in logged if "epoch" not in row]
    assert [step for row, step in logged if "epoch" not in row] == [3, 6, 9, 12, 15, 18]
    assert all({"step/loss", "step/lr"} <= row.keys() for row in steps)
    epochs = [(row, step) for row, step in logged if "epoch" in row]
    assert [step for _, step in epochs] == [1, 2]
    history = results["folds"][0]["epochs"]
    assert [row["validation_accuracy"] for row, _ in epochs] == [
        row["validation_accuracy"] for row in history
    ]
    images = {path.name for name, path in Memory.calls if name == "image"}
    assert {"training_curves.png", "confusion_matrix.png"} <= images
    assert ("artefact", tmp_path / "run/checkpoints/best.pt") in Memory.calls
    numbers, status = Memory.calls[-1][1]
    assert status == "completed"
    assert numbers["test_accuracy"] == results["accuracy"]["mean"]
    told = capsys.readouterr()
    assert [line for line in told.out.splitlines() if "tracker" in line] == [
        "tracker Memory: in memory"
    ]
    assert "tracker" not in told.err


def test_folds_are_runs_of_a_group_and_the_run_over_them_another(
    train: Train, tmp_path: Path
) -> None:
    results = train(f"+tracker.mine._target_={HERE}.Memory", *FOLDS)
    one_fold = ["start", "log", "artefact", "finish"]
    assert kinds() == [*one_fold, *one_fold, "start", "image", "finish"]
    runs = [run for name, run in Memory.calls if name == "start"]
    assert [run.name for run in runs] == ["run/fold_1", "run/fold_2", "run"]
    assert {run.group for run in runs} == {"run"}
    assert len({run.identity("mine") for run in runs}) == 1
    assert runs[2].config == runs[0].config
    numbers, _ = Memory.calls[-1][1]
    assert numbers["test_accuracy_std"] == results["accuracy"]["std"]
    assert numbers["fold_2.test_accuracy"] == results["folds"][1]["accuracy"]
    assert ("artefact", tmp_path / "run/checkpoints/fold_2/best.pt") in Memory.calls


def test_jobs_of_a_sweep_are_a_group(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "3").mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    run = TrackedRun(sweep / "3", fold=1)
    assert run.name == "sweep/3/fold_1"
    assert run.group == str(sweep)[-100:]
    assert run.sweep == sweep


def test_folds_in_processes_are_tracked_there_and_summed_up_here(train: Train) -> None:
    train(f"+tracker.mine._target_={HERE}.Memory", *FOLDS[:2], "cv.n_jobs=2", NO_PLOTS)
    assert kinds() == ["start", "finish"]
    assert Memory.calls[0][1].over_folds


def test_a_resumed_run_is_the_same_run(train: Train) -> None:
    mine = f"+tracker.mine._target_={HERE}.Memory"
    train(mine, NO_PLOTS, "scheduler=constant")
    first = Memory.calls[0][1]
    identity = first.identity("mine")
    Memory.calls.clear()
    train(mine, NO_PLOTS, "scheduler=constant", "training.epochs=3")
    again = Memory.calls[0][1]
    assert again.step == 20
    assert again.identity("mine") == identity
    assert [value[1] for name, value in Memory.calls if name == "log"] == [21, 24, 27, 30, 3]


def test_an_identity_is_the_same_in_threads_that_ask_at_once(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(TrackedRun(tmp_path).identity("x")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    TrackedRun(tmp_path).forget("x")
    assert TrackedRun(tmp_path).identity("x") not in found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksums of weights trained without trackers, filled in by `untracked`."""
    return {}


@pytest.mark.parametrize("method", ["all", *METHODS[:-1]])
def test_whatever_a_tracker_raises_the_run_completes_with_the_same_weights_and_a_warning(
    train: Train, weights: dict[str, str], capsys: pytest.CaptureFixture[str], method: str
) -> None:
    if not weights:
        weights["one"] = train(NO_PLOTS, directory="untracked")["folds"][0]["weights_sha256"]
        capsys.readouterr()
    target = f"+tracker.mine={{_target_: {HERE}.Broken, method: {method}}}"
    results = train(target, *([] if method == "image" else [NO_PLOTS]))
    assert results["folds"][0]["weights_sha256"] == weights["one"]
    assert results["status"] == "completed"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert "Broken" in line
    assert "no route to host" in line


def test_a_tracker_that_fails_in_one_fold_is_not_tried_in_the_next(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    train(f"+tracker.mine._target_={HERE}.Broken", *FOLDS, NO_PLOTS)
    assert capsys.readouterr().err.count("tracker") == 1


def test_a_callback_as_tracker_does_not_end_the_run_either(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    results = train(f"+tracker.mine._target_={HERE}.BrokenCallback", NO_PLOTS)
    assert results["status"] == "completed"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert "tracker.mine (BrokenCallback) failed in on_batch_end: OSError: no route" in line


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_hangs_holds_up_the_end_of_a_run_for_its_patience_only(
    train: Train, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    started = time.monotonic()
    train(f"+tracker.mine={{_target_: {HERE}.Stuck, method: {method}}}", NO_PLOTS)
    assert time.monotonic() - started < 20  # seconds, most of them the training
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert "not everything was sent within 0.3 s" in line


def test_a_missing_package_is_said_before_anything_is_written(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pip install nothing"):
        train(f"+tracker.mine._target_={HERE}.NeedsNothingThatExists")
    assert not list((tmp_path / "run").iterdir())


def test_what_is_no_tracker_is_refused(train: Train) -> None:
    with pytest.raises(UserError, match="allowed is a subclass of"):
        train("+tracker.mine._target_=collections.Counter")


def test_a_step_only_queues_its_row() -> None:
    """A blocked thread changes nothing: no lock is waited for."""
    release = threading.Event()
    worker = Worker(lambda kind, rows: hold(release), lambda error: None, "test")
    worker.add("start")
    tracker = Memory()
    tracker._Tracker__worker = worker  # type: ignore[attr-defined]
    rows = [{"epoch": 1, "step": step, "loss": 0.5, "lr": 0.1} for step in range(10_000)]
    started = time.perf_counter()
    for row in rows:
        tracker.on_step_logged(None, row)  # type: ignore[arg-type]
    assert (time.perf_counter() - started) / len(rows) < 100e-6  # about 2 microseconds
    release.set()
    assert worker.stop(10)


def test_rows_beyond_the_limit_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MOST", 5)
    release = threading.Event()
    done: list[int] = []

    def work(kind: str, several: list[tuple[Any, ...]]) -> None:
        release.wait()
        done.append(len(several))

    worker = Worker(work, lambda error: None, "test")
    for _ in range(20):
        worker.add("log", {}, 1)
    assert worker.dropped >= 14
    release.set()
    assert worker.stop(10)
    assert sum(done) == 20 - worker.dropped


def test_stop_signals_are_left_to_the_main_thread() -> None:
    import signal

    seen: list[set[int]] = []
    worker = Worker(
        lambda kind, rows: seen.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        lambda error: None,
        "test",
    )
    worker.add("start")
    assert worker.stop(10)
    assert set(STOPPING) <= seen[0]


def test_numbers_of_metrics_are_among_the_results() -> None:
    mean = {"mean": 0.5, "std": 0.1, "n": 2}
    row = {"accuracy": 0.5, "loss": 1.0, "metrics": {"ece": 0.2}}
    results = {
        "accuracy": mean,
        "loss": mean,
        "metrics": {"ece": mean},
        "folds": [{"fold": 1, **row}, {"fold": 2, **row}],
        "parameters": 10,
        "samples_per_second": 3.0,
    }
    numbers = final_numbers(results)
    assert numbers["test_ece"] == 0.5
    assert numbers["fold_2.test_ece"] == 0.2
    assert numbers["parameters"] == 10

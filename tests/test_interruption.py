"""A signal stops a run in any phase, and only the work under way is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.app import hydra_callback as launch
from mnist_exp.experiment import build, fold, pictures
from mnist_exp.gradients import collection
from mnist_exp.gradients import pictures as gradient_pictures
from mnist_exp.interruption import STOPPING, Interrupted, StopSignals
from mnist_exp.plots import run as plots
from mnist_exp.plots import sweep as sweep_plots
from tests.helpers.fault_injection import (
    CNN,
    KFOLD,
    LONG,
    SMALL,
    command,
    exit_code,
    few_images,
    outcome,
    start_command,
    status,
    wait_until,
)

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def signal_at(owner: Any, name: str, number: int, call: int = 1) -> Callable[[], None]:
    """Make the process send itself a signal at the n-th call of a function."""

    def prepare() -> None:
        function = getattr(owner, name)
        calls = []

        def sends(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return function(*arguments, **more)

        setattr(owner, name, sends)

    return prepare


def checkpoints(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("epoch*")}


DRAWN = (*KFOLD, "plots.enabled=true", "plots.dpi=20", "plots.num_samples=4")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with plots."""
    directory = tmp_path_factory.mktemp("whole")
    assert command(*few_images(), *DRAWN, "hydra.run.dir=run", cwd=directory)[0] == 0
    return directory / "run"


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_drawing_stops_and_is_done_on_resume(tmp_path: Path, drawn: Path, number: int) -> None:
    run = tmp_path / "run"
    at = signal_at(plots, "predictions_figure", number)
    code, output = command(*few_images(), *DRAWN, "hydra.run.dir=run", cwd=tmp_path, prepare=at)
    assert code == 128 + number, output
    assert "continue with: python -m mnist_exp resume=run" in output
    assert status(run) == ("interrupted", f"stopped by {signal.Signals(number).name}")
    assert sorted(path.stem for path in run.glob("plots/*")) == ["mnist_samples", "training_curves"]
    before = checkpoints(run)
    code, output = command("resume=run", cwd=tmp_path)
    assert code == 0, output
    assert checkpoints(run) == before
    assert (run / "plots" / "accuracy_by_fold.png").exists()
    assert outcome(run) == outcome(drawn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (pictures, "augmented_inputs", 1),
        (gradient_pictures, "draw_gradients", 1),
        (fold, "evaluate", 3),  # on the test set, after one per epoch
    ],
)
def test_every_work_after_training_stops(tmp_path: Path, owner: Any, name: str, call: int) -> None:
    more = ("gradients=epoch", *DRAWN[-3:], "model=mlp100", "cv=none", "data.subset=100")
    arguments = (*few_images(), *SMALL[:2], *more, "hydra.run.dir=run")
    at = signal_at(owner, name, signal.SIGTERM, call)
    assert command(*arguments, cwd=tmp_path, prepare=at)[0] == 143
    assert status(tmp_path / "run")[0] == "interrupted"
    before = checkpoints(tmp_path / "run")
    assert command("resume=run", cwd=tmp_path)[0] == 0
    assert checkpoints(tmp_path / "run") == before
    assert (tmp_path / "run" / "plots" / "gradient_norms_by_class.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(("owner", "name"), [(launch, "check_job"), (build, "build_dataset")])
def test_a_run_stopped_before_it_trains_leaves_nothing(
    tmp_path: Path, owner: Any, name: str, number: int
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    at, log = signal_at(owner, name, number), tmp_path / "log"
    process = start_command(*few_images(), *KFOLD, cwd=cwd, log=log, prepare=at)
    assert exit_code(process) == 128 + number
    claimed = "" if name == "check_job" else " before it began to train"
    assert log.read_text() == f"stopped by {signal.Signals(number).name}{claimed}\n"
    assert list(cwd.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 3])  # at initial weights, after epoch 2
def test_the_collection_of_gradients_stops_and_its_epoch_is_trained_again(
    tmp_path: Path, call: int
) -> None:
    more = ("gradients=epoch", "gradients.at_start=true", "gradients.cosine=false")
    arguments = (*few_images(), *more, "model=mlp100", "cv=none", "data.subset=100", *SMALL)
    at = signal_at(collection, "_record_all", signal.SIGTERM, call)
    code, output = command(*arguments, "hydra.run.dir=run", cwd=tmp_path, prepare=at)
    assert code == 143, output
    assert "Traceback" not in output
    run = tmp_path / "run"
    found = sorted(path.name for path in run.glob("gradients/*"))
    assert found == [] if call == 1 else "epoch_2" not in found
    assert not any("partial" in name for name in found)
    assert command("resume=run", cwd=tmp_path)[0] == 0
    assert command(*arguments, "hydra.run.dir=whole", cwd=tmp_path)[0] == 0
    assert outcome(run) == outcome(tmp_path / "whole")
    for path in (tmp_path / "whole").rglob("*.npy"):
        assert (run / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_the_report_of_a_sweep_stops(tmp_path: Path, number: int) -> None:
    arguments = ("--multirun", *few_images(), *CNN, "training.epochs=1", "seed=0,1")
    at = signal_at(sweep_plots, "draw", number)
    code, output = command(*arguments, "hydra.sweep.dir=sweep", cwd=tmp_path, prepare=at)
    assert code == 128 + number, output
    name = signal.Signals(number).name
    command_to_go_on = f"python -m mnist_exp sweep.resume={tmp_path / 'sweep'}"
    assert f"stopped by {name}\ncontinue with: {command_to_go_on}\n" in output
    assert "Traceback" not in output
    assert [status(tmp_path / "sweep" / job)[0] for job in "01"] == ["completed"] * 2
    assert command("sweep.resume=sweep", cwd=tmp_path)[0] == 0
    assert (tmp_path / "sweep" / "sweep.png").exists()


@pytest.mark.slow
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(tmp_path: Path) -> None:
    def as_nohup_does() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    arguments = (*few_images(), *LONG, "hydra.run.dir=run")
    log = tmp_path / "log"
    process = start_command(*arguments, cwd=tmp_path, log=log, prepare=as_nohup_does)
    rows = tmp_path / "run" / "metrics.jsonl"
    wait_until(rows.exists, process)
    os.kill(process, signal.SIGHUP)
    size = rows.stat().st_size
    wait_until(lambda: rows.stat().st_size > size + 10_000, process)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 143


def test_a_signal_in_work_that_can_be_done_again_stops_it_there() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)  # recorded only
        with pytest.raises(Interrupted, match="SIGTERM"):
            signals.check()
        with pytest.raises(Interrupted), signals.at_once():
            raise AssertionError("a signal came before")
        signals.received = None
        with pytest.raises(Interrupted), signals.at_once():
            os.kill(os.getpid(), signal.SIGTERM)


def test_outside_the_main_thread_no_signal_is_caught() -> None:
    before, failures = [signal.getsignal(number) for number in STOPPING], []

    def work() -> None:
        try:
            with StopSignals() as signals:
                assert [signal.getsignal(number) for number in STOPPING] == before
                signals.check()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []

"""MLflow with a real server and its database; and with a server that is not there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trackers.conftest import FOLDS, Train

pytest.importorskip("mlflow", reason="an extra: pip install mlflow")

pytestmark = pytest.mark.slow
START_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``mlflow server`` with a database of its own."""
    directory, port = tmp_path_factory.mktemp("mlflow"), free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{directory}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(directory / "artifacts")),
    ]
    with (directory / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes
            },
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(uri):
            assert process.poll() is None, (directory / "log.txt").read_text()[-2000:]
            assert time.monotonic() < deadline, "mlflow server did not start"
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.wait(30)


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def runs_of(uri: str, experiment: str) -> dict[str, Any]:
    """Return the experiment's runs by name."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def arguments(uri: str, experiment: str) -> list[str]:
    own = [f"tracker.mlflow.tracking_uri={uri}", f"tracker.mlflow.experiment={experiment}"]
    return ["tracker=mlflow", "tracker.mlflow.patience=60", "scheduler=constant", *own]


def test_everything_of_a_run_is_there(
    server: str, train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    results = train(*arguments(server, "one"))
    told = capfd.readouterr()
    assert told.err == ""
    (line,) = [line for line in told.out.splitlines() if "epoch " not in line]
    assert line.startswith(f"tracker MLflow: {server}/#/experiments/")
    (run,) = runs_of(server, "one").values()
    assert line.endswith(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "2"
    assert run.data.metrics["test_accuracy"] == results["accuracy"]["mean"]
    client = MlflowClient(server)
    history = client.get_metric_history(run.info.run_id, "train_loss")
    rows = results["folds"][0]["epochs"]
    assert [(m.step, m.value) for m in history] == [(r["epoch"], r["train_loss"]) for r in rows]
    steps = client.get_metric_history(run.info.run_id, "step/loss")
    assert [metric.step for metric in steps] == [3, 6, 9, 12, 15, 18]
    plots = [file.path for file in client.list_artifacts(run.info.run_id, "plots")]
    assert "plots/training_curves.png" in plots
    best = client.download_artifacts(run.info.run_id, "checkpoints/best.pt", str(tmp_path))
    assert Path(best).read_bytes() == (tmp_path / "run/checkpoints/best.pt").read_bytes()


def test_an_extended_run_goes_on(server: str, train: Train) -> None:
    from mlflow import MlflowClient

    more = [*arguments(server, "extended"), "plots.enabled=false"]
    train(*more)
    train(*more, "training.epochs=3")
    (run,) = runs_of(server, "extended").values()
    history = MlflowClient(server).get_metric_history(run.info.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert run.info.status == "FINISHED"


def test_folds_are_children_of_the_run_and_a_run_of_its_sweep(
    server: str, train: Train, tmp_path: Path
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.json").write_text("{}")
    more = [*arguments(server, "folds"), "plots.enabled=false"]
    results = train(*more, *FOLDS, directory="sweep/0")
    train(*more, directory="sweep/1")
    runs = runs_of(server, "folds")
    assert set(runs) == {"sweep", "sweep/0", "sweep/0/fold_1", "sweep/0/fold_2", "sweep/1"}
    parents = {name: run.data.tags.get("mlflow.parentRunId", "none") for name, run in runs.items()}
    sweep, whole = (runs[name].info.run_id for name in ("sweep", "sweep/0"))
    assert parents == {
        "sweep": "none", "sweep/0": sweep, "sweep/1": sweep,
        "sweep/0/fold_1": whole, "sweep/0/fold_2": whole,
    }  # fmt: skip
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["sweep/0"].data.metrics["test_accuracy_std"] == results["accuracy"]["std"]


def test_a_run_the_server_does_not_know_is_made_anew(
    server: str, train: Train, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    more = [*arguments(server, "deleted"), "plots.enabled=false"]
    train(*more)
    (run,) = runs_of(server, "deleted").values()
    MlflowClient(server).delete_run(run.info.run_id)
    train(*more, "training.epochs=3")
    (other,) = runs_of(server, "deleted").values()
    assert other.info.run_id != run.info.run_id


def test_a_server_that_is_down_costs_seconds_at_the_end_and_a_warning(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    without = train("plots.enabled=false", "scheduler=constant", directory="without")
    capfd.readouterr()
    more = [*arguments(f"http://127.0.0.1:{free_port()}", "down"), "plots.enabled=false"]
    started = time.monotonic()
    results = train(*more, "tracker.mlflow.patience=3")
    assert time.monotonic() - started < 30  # seconds; the import of mlflow takes some
    ids = [run["folds"][0]["weights_sha256"] for run in (results, without)]
    assert ids[0] == ids[1]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: tracker MLflow: ")

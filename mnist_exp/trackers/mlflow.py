"""MLflow: a run on a tracking server or in a local database."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker

# Limits of the server: metrics and parameters in a request, characters of a parameter.
MOST_METRICS, MOST_PARAMETERS, LONGEST_PARAMETER = 1000, 100, 6000
# Nothing on the terminal, no usage data to others, and no minutes of retries; the user's own win.
ENVIRONMENT = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
STATUS = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Tracker):
    """Log to MLflow; folds are children of their run, and the jobs of a sweep of the sweep.

    Parameters
    ----------
    experiment : str
        Name of the experiment, made if there is none.
    tracking_uri : str or None
        The server or database; None: ``MLFLOW_TRACKING_URI``, or MLflow's own default.
    patience : float
        Seconds that the end of a training waits for what is not sent yet.
    """

    package: ClassVar = "mlflow"
    extra: ClassVar = "mlflow"

    def __init__(
        self,
        experiment: str = "mnist_exp",
        tracking_uri: str | None = None,
        patience: float = 15.0,
    ) -> None:
        self.experiment = experiment
        self.tracking_uri = tracking_uri
        self.patience = patience

    def prepare(self) -> None:
        """Import the package, with what it reads from the environment."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        super().prepare()

    def start(self, run: TrackedRun) -> None:
        """Find or make the run, and its parents."""
        from mlflow import MlflowClient, get_tracking_uri

        for name in ("mlflow", "alembic", "urllib3.connectionpool"):  # each retry is a warning
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = self.tracking_uri or get_tracking_uri()
        self.client = MlflowClient(uri)
        self.uri = uri
        self.experiment_id = run.identity(
            f"mlflow experiment {self.experiment} {uri}", self._experiment
        )
        lineage: list[str] = []  # from the sweep to the fold, as far as there are such
        if run.sweep is not None:
            lineage.append(self._run(run, "mlflow sweep", place=run.sweep))
        lineage.append(self._run(run.whole, "mlflow run", lineage))
        if run.fold is not None:
            lineage.append(self._run(run, f"mlflow fold {run.fold}", lineage))
        for run_id in lineage:
            self.client.update_run(run_id, status="RUNNING")
        self.run_id = lineage[-1]
        # a run over folds is not complete with one of them; a sweep is, until its next job starts
        self.complete = lineage if run.fold is None else lineage[-1:]
        self.lineage = lineage

    def log_rows(self, rows: Sequence[tuple[Mapping[str, float], int]]) -> None:
        """Send many numbers with each request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, step)
            for numbers, step in rows
            for key, value in numbers.items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics[start : start + MOST_METRICS])

    def image(self, path: Path) -> None:
        """Send a picture."""
        self.client.log_artifact(self.run_id, str(path), "plots")

    def artefact(self, path: Path) -> None:
        """Send a file."""
        self.client.log_artifact(self.run_id, str(path), "checkpoints")

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Send the results and the status, which is also that of its parents, if it stopped."""
        if results:
            self.log_rows([(results, 0)])
        for run_id in self.complete if status == "completed" else self.lineage:
            self.client.set_terminated(run_id, STATUS[status])

    def where(self) -> str:
        """Return the address of the run, or the database and the run's number."""
        if self.uri.startswith("http"):
            address = f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}"
            return f"{address}/runs/{self.run_id}"
        return f"{self.uri}, run {self.run_id}"

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(self.experiment))
        except Exception:  # made by another run meanwhile
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _run(
        self, run: TrackedRun, key: str, parents: Sequence[str] = (), place: Path | None = None
    ) -> str:
        """Return the identity of a run, made if this server does not know it."""
        key = f"{key} {self.uri}"
        run_id = run.identity(key, lambda: self._make(run, parents, place), place)
        if not self._known(run_id):
            run.forget(key, place)
            run_id = run.identity(key, lambda: self._make(run, parents, place), place)
        return run_id

    def _known(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return False
            raise

    def _make(self, run: TrackedRun, parents: Sequence[str], place: Path | None) -> str:
        tags = {"mnist_exp.directory": str((place or run.files).absolute())}
        if parents:
            tags["mlflow.parentRunId"] = parents[-1]
        name = run.name if place is None else place.name
        made = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        run_id = str(made.info.run_id)
        if place is None:
            self._send_config(run_id, run.config)
        return run_id

    def _send_config(self, run_id: str, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in config.items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self.client.log_batch(run_id, params=parameters[start : start + MOST_PARAMETERS])

"""Trackio: a local database, looked at with `trackio show`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mnist_exp.run.command_line import shell_word
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker

RESERVED = ("project", "run", "timestamp", "step", "time", "metrics")  # Trackio's own columns


class Trackio(Tracker):
    """Log to Trackio's database in ``TRACKIO_DIR``; starts no server.

    The jobs of a sweep are a group, or else the folds of a run and the run over them.

    Parameters
    ----------
    project : str
        Name of the project.
    patience : float
        Seconds that the end of a training waits for what is not written yet.
    """

    package: ClassVar = "trackio"
    extra: ClassVar = "trackio"

    def __init__(self, project: str = "mnist_exp", patience: float = 15.0) -> None:
        self.project = project
        self.patience = patience

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or go on with it."""
        from trackio import Run  # trackio.init would start a web server

        number = "" if run.fold is None else f"-fold-{run.fold}"
        config = {"run_directory": str(run.directory.absolute()), **run.config}
        self.run: Any = Run(
            url=None,
            project=self.project,
            client=None,
            name=run.name,
            run_id=run.identity("trackio") + number,
            group=run.group,
            config={key.lstrip("_"): value for key, value in config.items()},
        )
        self.epoch = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a row."""
        own = {key: value for key, value in metrics.items() if key not in RESERVED}
        self.run.log(own, step)
        self.epoch = int(metrics.get("epoch", self.epoch))

    def image(self, path: Path) -> None:
        """Log a picture."""
        from trackio import Image

        self.run.log({f"plots/{path.stem}": Image(str(path))}, self.epoch)

    def artefact(self, path: Path) -> None:
        """Log a file as an artifact of the run."""
        self.run.log_artifact(path, name=f"{path.stem}-{self.run.id}", type="model")

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Log the results, and end."""
        if results:
            self.run.log(dict(results), self.epoch)
        with contextlib.redirect_stdout(io.StringIO()):  # training has ended
            self.run.finish()

    def where(self) -> str:
        """Return the command that shows them."""
        return f"trackio show --project {shell_word(self.project)}"

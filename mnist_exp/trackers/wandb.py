"""Weights & Biases: a run online, or files to be sent later."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from mnist_exp.errors import UserError
from mnist_exp.run.command_line import shell_word
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker
from mnist_exp.train.state import TrainState
from mnist_exp.train.training import Training


class WandB(Tracker):
    """Log to Weights & Biases, with files in the ``wandb`` folder of the run directory.

    The jobs of a sweep are a group, or else the folds of a run and the run over them.

    Parameters
    ----------
    project : str
        Name of the project.
    entity : str or None
        User or team; None: the account's default.
    mode : {"online", "offline"} or None
        Whether to send, or only to write the files; None: ``WANDB_MODE``, or else online.
    patience : float
        Seconds that the end of a training waits for what is not sent yet.
    """

    package: ClassVar = "wandb"
    extra: ClassVar = "wandb"

    def __init__(
        self,
        project: str = "mnist_exp",
        entity: str | None = None,
        mode: str | None = None,
        patience: float = 15.0,
    ) -> None:
        self.project = project
        self.entity = entity
        self.mode = mode
        self.patience = patience

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Raise UserError without the package, or without an account where one is needed."""
        warnings = super().check(state, training, folds)
        if self._mode == "online" and not _has_key():
            raise UserError(
                "tracker=wandb: no account is known. Run `wandb login` first, or write files "
                "only with tracker.wandb.mode=offline."
            )
        return warnings

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or go on with it."""
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        self.tracked = run
        number = "" if run.fold is None else f"-fold-{run.fold}"
        self.run: Any = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self._mode,
            dir=run.directory,
            id=run.identity("wandb") + number,
            resume=None if self._mode == "offline" else "allow",
            name=run.name,
            group=run.group,
            job_type="run" if run.fold is None else "fold",
            config={"run_directory": str(run.directory.absolute()), **run.config},
            reinit="create_new",
            # links to directories are refused where a run resumes
            settings=wandb.Settings(silent=True, console="off", symlink=False),
        )
        self.run.define_metric("step")
        self.run.define_metric("epoch")
        self.run.define_metric("step/*", step_metric="step")
        for name in ("train_*", "validation_*", "test_*", "lr"):
            self.run.define_metric(name, step_metric="epoch")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a row, over the axis ``step`` or ``epoch``."""
        self.run.log(dict(metrics) if "epoch" in metrics else {**metrics, "step": step})

    def image(self, path: Path) -> None:
        """Log a picture."""
        import wandb

        self.run.log({f"plots/{path.stem}": wandb.Image(str(path))})

    def artefact(self, path: Path) -> None:
        """Log a file as an artifact of the run."""
        import wandb

        artifact = wandb.Artifact(f"{path.stem}-{self.run.id}", type="model")
        artifact.add_file(str(path), skip_cache=True)
        self.run.log_artifact(artifact)

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Write the results into the run's summary, and end it."""
        self.run.summary.update(dict(results))
        self.run.finish(exit_code=0 if status == "completed" else 1)

    def where(self) -> str:
        """Return the address, or the command that sends the files."""
        if self._mode == "offline":
            return f"wandb sync {shell_word(str(self.tracked.directory / 'wandb'))}/offline-run-*"
        return str(self.run.url)

    @property
    def _mode(self) -> str:
        return self.mode or os.environ.get("WANDB_MODE") or "online"


def _has_key() -> bool:
    """Whether a key is in the environment or where ``wandb login`` puts it."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(wandb.Settings().base_url).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False

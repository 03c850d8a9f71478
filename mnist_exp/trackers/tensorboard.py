"""TensorBoard's event files in the run directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mnist_exp.run.command_line import shell_word
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker


class TensorBoard(Tracker):
    """Write event files to the ``tensorboard`` folder of the run, or of the fold.

    Parameters
    ----------
    flush_secs : int
        Seconds between two writes to disk.
    """

    package: ClassVar = "torch.utils.tensorboard"
    extra: ClassVar = "tensorboard"

    def __init__(self, flush_secs: int = 30) -> None:
        self.flush_secs = flush_secs
        self.epoch = 0

    def start(self, run: TrackedRun) -> None:
        """Open the files, and hide steps that are repeated after an interruption."""
        from torch.utils.tensorboard import SummaryWriter

        self.run = run
        self.writer = SummaryWriter(
            str(run.files / "tensorboard"),
            flush_secs=self.flush_secs,
            purge_step=run.step + 1 if run.step else None,
        )
        text = json.dumps(run.config, indent=2, default=str)
        self.writer.add_text("config", f"```json\n{text}\n```", 0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write numbers, tagged with their names."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        if "epoch" in metrics:
            self.epoch = step

    def image(self, path: Path) -> None:
        """Write a picture."""
        from torchvision.io import ImageReadMode, read_image

        picture = read_image(str(path), ImageReadMode.RGB)  # uint8 (3, H, W)
        self.writer.add_image(f"plots/{path.stem}", picture, self.epoch)

    def artefact(self, path: Path) -> None:
        """Write the file's path; event files hold no other files."""
        self.writer.add_text(path.stem, str(path), self.epoch)

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Write results, beside the settings in the HParams tab, and close the files."""
        if results:
            settings = {key: _setting(value) for key, value in self.run.config.items()}
            self.writer.add_hparams(settings, dict(results), run_name=".", global_step=self.epoch)
        self.writer.close()

    def where(self) -> str:
        """Return the command that shows them."""
        return f"tensorboard --logdir {shell_word(str(self.run.directory))}"


def _setting(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)

"""``hydra/sweeper=grid``, the default; Hydra loads sweepers from ``hydra_plugins`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from mnist_exp.app.sweep.sweeper import LaunchingSweeper


class GridSweeper(LaunchingSweeper):
    """Start the jobs in sweep.json, each of which was composed and checked when it was listed.

    Parameters
    ----------
    max_batch_size : int or None
        Jobs given to the launcher at a time; None: all, or one where this process trains them.
    params : mapping
        What is swept besides the command line; read when the jobs were listed.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.max_batch_size = max_batch_size

    def sweep(self, arguments: list[str]) -> None:
        """Launch the jobs; an engine's error ends the process."""
        from hydra._internal.core_plugins.basic_launcher import BasicLauncher

        from mnist_exp.run.saved_config import RUN_KEYS, key_of
        from mnist_exp.run.sweep_record import read_sweep

        assert self.config is not None
        assert self.launcher is not None
        sweep_dir = Path(self.config.hydra.sweep.dir)
        OmegaConf.save(self.config, sweep_dir / "multirun.yaml")
        run_keys = [text for text in arguments if key_of(text) in RUN_KEYS]  # not in the record
        jobs = [[*job.overrides, *run_keys] for job in read_sweep(sweep_dir).jobs or ()]
        # one where this process trains them: launchers keep half a megabyte of each until they end
        alone = isinstance(self.launcher, BasicLauncher)
        size = self.max_batch_size or (1 if alone else len(jobs))
        failed: list[JobReturn] = []
        for start in range(0, len(jobs), size):
            ended = self.launcher.launch(jobs[start : start + size], initial_job_idx=start)
            failed += [job for job in ended if job.status is not JobStatus.COMPLETED]
        for job in failed[:1]:
            job.return_value  # noqa: B018  # raises what ended it

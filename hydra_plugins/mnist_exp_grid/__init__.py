"""``hydra/sweeper=grid``, the default; Hydra loads sweepers from ``hydra_plugins`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class GridSweeper(Sweeper):
    """Start the jobs in sweep.json, each of which was composed and checked when it was listed.

    Parameters
    ----------
    max_batch_size : int or None
        Jobs given to the launcher at a time; None: all.
    params : mapping
        What is swept besides the command line; read when the jobs were listed.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.max_batch_size = max_batch_size

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take the configuration and make the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch the jobs; an engine's error ends the process."""
        from mnist_exp.run.saved_config import RUN_KEYS, key_of
        from mnist_exp.run.sweep_record import read_sweep

        assert self.config is not None
        assert self.launcher is not None
        sweep_dir = Path(self.config.hydra.sweep.dir)
        OmegaConf.save(self.config, sweep_dir / "multirun.yaml")
        run_keys = [text for text in arguments if key_of(text) in RUN_KEYS]  # not in the record
        jobs = [[*job.overrides, *run_keys] for job in read_sweep(sweep_dir).jobs or ()]
        size = self.max_batch_size or len(jobs)
        for start in range(0, len(jobs), size):
            for ended in self.launcher.launch(jobs[start : start + size], initial_job_idx=start):
                ended.return_value  # noqa: B018  # raises what ended the job

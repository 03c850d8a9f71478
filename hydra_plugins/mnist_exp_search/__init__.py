"""``hydra/sweeper=optuna``; Hydra loads sweepers from ``hydra_plugins`` alone."""

from __future__ import annotations

from typing import Any

from mnist_exp.app.sweep.sweeper import LaunchingSweeper


class OptunaSweeper(LaunchingSweeper):
    """Start the jobs of a sweep with settings that Optuna proposes, knowing those that ended.

    Parameters
    ----------
    settings
        The keys of ``conf/hydra/sweeper/optuna.yaml``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials; a user's mistake is printed and ends the process."""
        from mnist_exp.app.hydra_callback import refuse
        from mnist_exp.app.search.trials import search
        from mnist_exp.errors import UserError

        assert self.config is not None
        assert self.launcher is not None
        try:
            search(self.config, self.launcher, arguments)
        except UserError as error:
            refuse(error)

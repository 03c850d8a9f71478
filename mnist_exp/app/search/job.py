"""The part of a sweep's job that knows of its search."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.search.settings import OPTUNA, no_pruning
from mnist_exp.app.sweep.objective import direction_of, searches
from mnist_exp.run.objective import objective_column
from mnist_exp.terminal import printable

if TYPE_CHECKING:
    from mnist_exp.callbacks.trial import SearchTrial


def trial_callbacks(hydra: Any, config: DictConfig) -> dict[str, SearchTrial]:
    """Return the callbacks of a job for its search; none if the sweep does not search.

    Parameters
    ----------
    hydra : HydraConf
        Hydra's part of the job's configuration.
    config : DictConfig
        The job's configuration.
    """
    if not searches(hydra):
        return {}
    from mnist_exp.callbacks.trial import SearchTrial  # loads torch

    column = objective_column(config.sweep)
    settings: Any = OmegaConf.to_container(hydra.sweeper, resolve=True)
    if settings["_target_"] != OPTUNA or settings["pruner"] is None:
        return {"search": SearchTrial(column)}
    falls_behind = _reporter(settings, hydra, config)
    return {"search": SearchTrial(column, falls_behind, no_pruning(settings["pruner"]))}


def _reporter(settings: Any, hydra: Any, config: DictConfig) -> Callable[[float, int], bool]:
    from optuna.samplers import RandomSampler
    from optuna.trial import Trial

    from mnist_exp.app.search.study import open_study

    sampler = RandomSampler()  # proposes nothing here
    direction, epochs = direction_of(config), config.training.epochs
    study = open_study(settings, Path(hydra.sweep.dir), direction, sampler, epochs)
    trial = Trial(study, study.get_trials(deepcopy=False)[hydra.job.num]._trial_id)

    def falls_behind(value: float, epoch: int) -> bool:
        try:
            trial.report(value, epoch)
            return trial.should_prune()
        except Exception as error:  # of any database; it may be back for the next epoch
            reason = printable(str(error).strip().partition("\n")[0])
            print(f"warning: epoch {epoch} is not compared with other trials: {reason}",
                  file=sys.stderr)  # fmt: skip
            return False

    return falls_behind

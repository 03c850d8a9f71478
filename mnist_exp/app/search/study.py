"""Optuna's study of a search: where it is stored, what proposes trials, what ends them."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial

from mnist_exp.app.search.space import Space
from mnist_exp.errors import UserError

JOURNAL = "study.journal"
ATTEMPTS = 3  # to open a study, a second apart
OWN_NAME = "mnist_exp"  # of the only study in a journal
# These draw from one sequence or list, whatever the trial; a seed for each would mix sequences.
ONE_SEED = ("qmc", "grid")


class SeededByTrial(BaseSampler):
    """A sampler whose random numbers depend on the seed and the trial's number alone.

    A resumed search proposes what it would have proposed uninterrupted, and processes that share
    a study and a seed do not propose the same.

    Parameters
    ----------
    make : callable
        Makes the sampler of a trial from a seed.
    seed : int or None
        The search's seed; None: from the operating system.
    """

    def __init__(self, make: Callable[[int | None], BaseSampler], seed: int | None) -> None:
        self.make = make
        self.seed = seed

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the trial's sampler."""
        seed = self.seed
        if seed is not None:
            seed = int(np.random.SeedSequence((seed, trial.number)).generate_state(1)[0])
        self.own = self.make(seed)
        self.own.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings that are proposed together."""
        return self.own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose those settings."""
        return self.own.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Propose a setting on its own."""
        return self.own.sample_independent(study, trial, param_name, param_distribution)


def make_sampler(settings: Mapping[str, Any], space: Space) -> BaseSampler:
    """Return the sampler of ``hydra.sweeper``'s settings."""
    kind, seed, startup = settings["sampler"], settings["seed"], settings["startup_trials"]
    makers: dict[str, Callable[[int | None], BaseSampler]] = {
        "tpe": lambda own: TPESampler(seed=own, n_startup_trials=startup, constant_liar=True),
        "gp": lambda own: GPSampler(seed=own, n_startup_trials=startup),
        "cmaes": lambda own: CmaEsSampler(seed=own, n_startup_trials=startup),
        "qmc": lambda own: QMCSampler(seed=own, scramble=own is not None),
        "random": lambda own: RandomSampler(seed=own),
        "grid": lambda own: GridSampler(space.grid(), seed=own),
    }
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of QMC, since 2022

    make = makers[kind]
    if kind in ONE_SEED:
        return SeededByTrial(lambda _: make(seed), None)
    return SeededByTrial(make, seed)


def make_pruner(settings: Mapping[str, Any], epochs: int) -> BasePruner:
    """Return the pruner of ``hydra.sweeper``'s settings, for trials of ``epochs`` epochs."""
    least = settings["least_epochs"]
    if settings["pruner"] == "median":
        return MedianPruner(n_startup_trials=settings["startup_trials"], n_warmup_steps=least)
    if settings["pruner"] == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=max(epochs, least))
    return NopPruner()


def open_study(
    settings: Mapping[str, Any],
    sweep_dir: Path,
    direction: str,
    sampler: BaseSampler,
    epochs: int,
) -> Study:
    """Open the study of a search, which is made if there is none yet.

    Parameters
    ----------
    settings : mapping
        Checked values of ``hydra.sweeper``.
    sweep_dir : Path
        The sweep's directory.
    direction : {"maximize", "minimize"}
        Which objectives are better.
    sampler : BaseSampler
        Proposes settings.
    epochs : int
        Epochs of a trial that is not pruned.

    Raises
    ------
    UserError
        If the storage cannot be opened, or its study has the other direction.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    url, name = settings["storage"], settings["study_name"] or OWN_NAME
    path = str(sweep_dir / JOURNAL)

    def opened() -> Study:
        storage: str | BaseStorage = url or JournalStorage(
            # a file as lock: a link left by a killed process would need trust=true
            JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
        )
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction=optuna.study.StudyDirection[direction.upper()],
            sampler=sampler,
            pruner=make_pruner(settings, epochs),
            load_if_exists=True,
        )

    try:
        study = _again(opened)
    except Exception as error:  # of any database
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"hydra.sweeper.storage={url or path}: cannot be opened "
            f"({type(error).__name__}: {reason})."
        ) from error
    if study.direction.name.lower() != direction:
        raise UserError(
            f"hydra.sweeper.study_name={name}: that study does not {direction}; give another name."
        )
    return study


def _again(opened: Callable[[], Study]) -> Study:
    """Try more than once: processes that start together make a new database's tables at once."""
    for _ in range(ATTEMPTS - 1):
        try:
            return opened()
        except Exception:  # of any database; the last attempt's is raised
            time.sleep(1)
    return opened()

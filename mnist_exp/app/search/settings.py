"""Check a search before it starts; loads no Optuna."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from mnist_exp.app.search.space import read_space
from mnist_exp.app.sweep.objective import check_measured, searches
from mnist_exp.errors import UserError
from mnist_exp.run.objective import DEFAULT
from mnist_exp.run.saved_config import as_typed
from mnist_exp.schema.keys import OBJECTIVE
from mnist_exp.schema.rule import TEXT, Rule, check_settings, integer, one_of, optional, refusal

OPTUNA = "hydra_plugins.mnist_exp_search.OptunaSweeper"
GROUP = "hydra.sweeper"
RULES: dict[str, Rule] = {
    "n_trials": integer(1),
    "n_jobs": integer(1),
    "sampler": one_of("tpe", "gp", "cmaes", "qmc", "random", "grid"),
    "startup_trials": integer(0),
    "seed": optional(integer(0)),
    "storage": optional(TEXT),
    "study_name": optional(TEXT),
    "pruner": optional(one_of("median", "hyperband")),
    "least_epochs": integer(1),
}
SQLITE = "sqlite:///"


def check_search(config: DictConfig) -> None:
    """Check what a sweep, if it searches, chooses by and how; before it makes any file.

    Raises
    ------
    UserError
        If test images would choose, a package is missing, or a setting is wrong.
    """
    objective = config.sweep.get("objective", DEFAULT)
    if not OBJECTIVE.accepts(objective):
        raise UserError(refusal("sweep.objective", objective, OBJECTIVE))
    if not searches(config.hydra):
        return
    _check_objective(config)
    settings = config.hydra.sweeper
    if settings._target_ != OPTUNA:
        return
    values: Any = OmegaConf.to_container(settings, resolve=True)
    check_settings(RULES, values, GROUP)
    if values["storage"] is not None and values["study_name"] is None:
        raise UserError(
            f"{GROUP}.storage: name the study there, {GROUP}.study_name=NAME; all that give the "
            "same name take part in one search."
        )
    if values["pruner"] is not None and str(config.cv._target_).startswith("sklearn."):
        raise UserError(no_pruning(values["pruner"]))
    if values["sampler"] == "cmaes" and config.sweep.resume is not None and not config.trust:
        raise UserError(
            f"{GROUP}.sampler=cmaes: keeps its state in the study as a pickle, which can run "
            "code; add trust=true if you know who wrote that study."
        )
    space = read_space(as_typed(config.hydra.overrides.task), values["params"])
    if values["sampler"] == "grid":
        space.grid()
    for name in ("optuna", *(["cmaes"] if values["sampler"] == "cmaes" else [])):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"hydra/sweeper=optuna: the package {name} is missing; "
                'pip install "mnist_exp[optuna]".'
            )


def no_pruning(pruner: str) -> str:
    """Return why trials with several folds cannot be pruned."""
    return (
        f"{GROUP}.pruner={pruner}: trials are compared after each epoch on the same validation "
        "images, and k-fold has none; set cv=holdout, or leave the pruner out."
    )


def make_storage_absolute(config: DictConfig) -> None:
    """Resolve the path of an SQLite file, since jobs and a resumption may start elsewhere."""
    storage = config.hydra.sweeper.get("storage")
    if not isinstance(storage, str) or not storage.startswith(SQLITE):
        return
    path = Path(storage.removeprefix(SQLITE)).expanduser()
    absolute = f"{SQLITE}{Path(config.hydra.runtime.cwd) / path}"
    with read_write(config):
        config.hydra.sweeper.storage = absolute
        config.hydra.overrides.hydra.append(f"{GROUP}.storage={json.dumps(absolute)}")


def _check_objective(config: DictConfig) -> None:
    cv = config.cv
    if cv._target_ == "mnist_exp.cv.Holdout" and not cv.validation:
        raise UserError(
            "hydra/sweeper: a search chooses by validation images, never by test images, and "
            "there are none; set cv=holdout, with cv.validation above 0."
        )
    check_measured(config)

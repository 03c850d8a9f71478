"""What a sweep ranks its jobs by: whether they measure it, and which of two values is better."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from mnist_exp.app.sweep.grid import BASIC, GRID
from mnist_exp.errors import UserError
from mnist_exp.run.objective import MAXIMIZE, MINIMIZE, VALIDATION, objective_column

DIRECTIONS = {"validation_accuracy": MAXIMIZE, "validation_loss": MINIMIZE}
ALWAYS = ("loss", "accuracy")  # measured in every run


def searches(hydra: Any) -> bool:
    """Whether a sweep's jobs are chosen by the objectives of others, not listed beforehand."""
    return hydra.sweeper._target_ not in (GRID, BASIC)


def direction_of(config: DictConfig) -> str:
    """Return ``sweep.direction``, or that of the objective: a loss is minimized.

    Raises
    ------
    UserError
        If the objective is a metric, and a metric cannot be built.
    """
    column = objective_column(config.sweep)
    if (direction := config.sweep.get("direction") or DIRECTIONS.get(column)) is not None:
        return str(direction)
    from mnist_exp.experiment.functions import build_metrics  # loads torch
    from mnist_exp.train.monitor import mode_of

    mode = mode_of(column, build_metrics(config))
    return {"min": MINIMIZE, "max": MAXIMIZE}[mode]


def check_measured(config: DictConfig) -> None:
    """Check that a run measures what its sweep ranks jobs by.

    Raises
    ------
    UserError
        Naming what is measured.
    """
    column = objective_column(config.sweep)
    name = column.removeprefix(VALIDATION)
    known = [*ALWAYS, *map(str, config.metrics)]
    if not config.callbacks and name not in ALWAYS and name.partition(".")[0] not in known:
        raise UserError(
            f"sweep.objective={column}: is not measured; allowed is one of: "
            f"{', '.join(VALIDATION + each for each in known)}. Others need metrics=NAME."
        )

"""A sweep's results as an object: its rows, its best run (``mnist_exp.load_sweep``)."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mnist_exp.app.runs import Run
from mnist_exp.errors import UserError
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.rows import as_table
from mnist_exp.run.sweep_table import Row, chosen_by, count_by_status, read_jobs

SEED = "seed"


def load_sweep(directory: str | os.PathLike[str], *, trust: bool = False) -> Sweep:
    """Open the directory of a sweep; nothing in it is changed.

    Parameters
    ----------
    directory : path
        The sweep directory, such as ``outputs/multirun/2026-11-26/10-15-00``.
    trust : bool
        As in `mnist_exp.load_run`, for the best run.

    Raises
    ------
    UserError
        If the directory is missing, holds no job, or is damaged.
    """
    path = Path(directory)
    if not path.is_dir():
        raise UserError(f"directory={path}: there is no such directory.")
    rows = read_jobs(path)
    if not rows:
        raise UserError(
            f"directory={path}: holds no sweep. Give the directory that holds its jobs."
        )
    return Sweep(path, rows, trust)


@dataclass(frozen=True)
class Sweep:
    """What a sweep left so far. Make one with `load_sweep`.

    Attributes
    ----------
    directory : Path
        The sweep directory.
    rows : list of Row
        One per requested job, the best first, those without an accuracy last.
    trust : bool
        Whether the best run may call targets of your own.
    """

    directory: Path
    rows: list[Row]
    trust: bool = False

    def __repr__(self) -> str:
        jobs = "job" if len(self.rows) == 1 else "jobs"
        return f"<Sweep {self.directory}: {len(self.rows)} {jobs}, {count_by_status(self.rows)}>"

    @property
    def table(self) -> Any:
        """The rows with a column for each setting; values are texts, as on the command line.

        A pandas DataFrame; where pandas is not installed, a list of dicts.
        """
        settings = dict.fromkeys(name for row in self.rows for name in row.overrides)
        return as_table(
            [
                {
                    "job": row.job,
                    **{name: row.overrides.get(name) for name in settings},
                    "accuracy": row.accuracy,
                    "std_accuracy": row.std,
                    "validation_accuracy": row.validation,
                    "wall_seconds": row.wall_seconds,
                    "status": row.status,
                    "error": row.error,
                }
                for row in self.rows
            ]
        )

    @property
    def chosen_by(self) -> str:
        """The metric that ranks the jobs: validation accuracy where every completed job has it."""
        return chosen_by(self.rows)

    @cached_property
    def best(self) -> Run:
        """The completed run that ranks first by `chosen_by`.

        Raises
        ------
        UserError
            If no job is completed.
        """
        for row in self.rows:
            if row.status == COMPLETED:
                return Run(self.directory / row.job, trust=self.trust)
        raise UserError(f"{self.directory}: no job is completed ({count_by_status(self.rows)}).")

    def over_seeds(self) -> list[dict[str, Any]]:
        """Summarise the completed jobs that differ in their seed alone.

        Returns
        -------
        list of dict
            In the order of `rows`: the settings other than the seed, then ``accuracy`` (mean),
            ``std`` (of the sample; None for a single job) and ``n``, the number of jobs.
        """
        groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
        for row in self.rows:
            if row.accuracy is not None:
                settings = sorted((k, v) for k, v in row.overrides.items() if k != SEED)
                groups.setdefault(tuple(settings), []).append(row.accuracy)
        return [
            {
                **dict(settings),
                "accuracy": statistics.fmean(accuracies),
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "n": len(accuracies),
            }
            for settings, accuracies in groups.items()
        ]

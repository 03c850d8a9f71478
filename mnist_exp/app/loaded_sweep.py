"""A sweep's results as an object: its rows, its best run (``mnist_exp.load_sweep``)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mnist_exp.app.runs import Run
from mnist_exp.errors import UserError
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.rows import as_table
from mnist_exp.run.sweep_jobs import Row, count_by_status, ranking_of, read_jobs
from mnist_exp.run.sweep_table import job_records, seed_records
from mnist_exp.wording import counted


def load_sweep(directory: str | os.PathLike[str], *, trust: bool = False) -> Sweep:
    """Open the directory of a sweep; nothing in it is changed.

    Parameters
    ----------
    directory : path
        The sweep directory, such as ``outputs/multirun/2026-11-26/10-15-00``.
    trust : bool
        As in `mnist_exp.load_run`, for its runs.

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
        One per requested job, the completed ones first, the best of them first.
    trust : bool
        Whether its runs may call targets of your own.
    """

    directory: Path
    rows: list[Row]
    trust: bool = False

    def __repr__(self) -> str:
        jobs = counted(len(self.rows), "job")
        return f"<Sweep {self.directory}: {jobs}, {count_by_status(self.rows)}>"

    @property
    def table(self) -> Any:
        """The rows of sweep.csv with a column for each setting given to the jobs.

        A pandas DataFrame; where pandas is not installed, a list of dicts.
        """
        return self._table(job_records(self.rows, self._settings))

    @cached_property
    def runs(self) -> list[Run]:
        """The completed jobs as runs, in the order of `rows`; they are opened on first use."""
        return [self._run(row) for row in self._completed]

    @cached_property
    def best(self) -> Run:
        """The run with the best validation accuracy, or the best ``sweep.objective``.

        With k-fold it is that of the held-out folds, which is optimistic for that run, since it was
        selected on the same images.

        Raises
        ------
        UserError
            If no job is completed, or a completed one has neither: to choose a setting by its test
            accuracy would bias that accuracy upwards.
        """
        if not self._completed:
            raise UserError(
                f"{self.directory}: no job is completed ({count_by_status(self.rows)})."
            )
        if ranking_of(self.rows) is None:
            raise UserError(
                f"{self.directory}: has no best run, since a completed job has no validation "
                "accuracy (sweep.objective), and test images must not choose. Set images aside "
                "(cv=holdout), or choose among .rows or .runs yourself."
            )
        return self._run(self._completed[0])

    def over_seeds(self) -> Any:
        """Summarise the jobs that differ in their seed alone.

        Returns
        -------
        DataFrame or list of dict
            The rows of sweep_by_seed.csv with a column for each setting given to the jobs, such as
            ``accuracy`` and ``std_accuracy`` (mean and sample standard deviation over seeds; the
            latter None for a single job), ``n`` and ``n_asked``, the jobs in the mean and those
            requested. The best mean comes first where one may be called so.
        """
        return self._table(seed_records(self.rows, self._settings))

    @property
    def _settings(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row.overrides))

    def _table(self, records: list[dict[str, Any]]) -> Any:
        """Return rows as a table, with the settings as numbers where they are."""
        names = {*self._settings}
        return as_table(
            [{k: _value(v) if k in names else v for k, v in row.items()} for row in records]
        )

    @property
    def _completed(self) -> list[Row]:
        return [row for row in self.rows if row.status == COMPLETED]

    def _run(self, row: Row) -> Run:
        return Run(self.directory / row.job, trust=self.trust)


def _value(text: str | None) -> Any:
    """Return a setting's value as a number if it is one."""
    for kind in (int, float):
        with contextlib.suppress(TypeError, ValueError):
            return kind(text)  # type: ignore[arg-type]
    return text

"""Jobs of a sweep, one row per requested job, whatever its outcome."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mnist_exp.errors import UserError
from mnist_exp.run.lock import is_locked
from mnist_exp.run.objective import Objective, Ranking, Score
from mnist_exp.run.overview import (
    DAMAGED,
    DEAD,
    NO_PROCESS,
    VALIDATION_ACCURACY,
    RunOverview,
    read_overview,
)
from mnist_exp.run.results import COMPLETED, PRUNED
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import values_by_key
from mnist_exp.run.sweep_record import (
    SWEEP_FILE,
    AskedJob,
    JobRecord,
    SweepRecord,
    begun_jobs,
    read_job,
    read_sweep,
)
from mnist_exp.run.text_table import Share
from mnist_exp.run.yaml_files import load_overrides

RECENT_SECONDS = 2.0  # a file's time may be this coarse
NEVER_BEGAN = "not run"
OPTIMISTIC = "optimistic, since it was selected on the same images"
NO_RESULTS = "stopped before it wrote results.json"


@dataclass(frozen=True)
class Row:
    """One job of a sweep.

    Attributes
    ----------
    job : str
        Directory, relative to the sweep's.
    overrides : dict of str
        Setting and value, as on the command line.
    status : str
        "running", "completed", "pruned", "interrupted", "failed" or "not run".
    accuracy : float or None
        Test accuracy, share in [0, 1], mean over folds; None unless the job is completed.
    std : float or None
        Sample standard deviation over folds.
    wall_seconds : float or None
        Duration of the job in seconds.
    error : str
        Why it failed or stopped; empty otherwise.
    validation : float or None
        Validation accuracy of the reported epoch, share in [0, 1], mean over folds.
    metrics : dict
        Metrics besides accuracy, by column, as in `RunOverview`; empty unless completed.
    threads : int or None
        CPU threads it trained on; sums, and so results, depend on it.
    host : str or None
        Name of the machine that it trained on.
    folds : int or None
        Number of splits that accuracy and std are over.
    score : Score or None
        Its objective (``sweep.objective``); None unless completed.
    """

    job: str
    overrides: dict[str, str]
    status: str
    accuracy: float | None
    std: float | None
    wall_seconds: float | None
    error: str
    validation: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    threads: int | None = None
    host: str | None = None
    folds: int | None = None
    score: Score | None = None


class Outcome(NamedTuple):
    """How a requested job ended.

    ``job`` is its directory relative to the sweep's, ``config`` its recorded configuration, if any.
    """

    job: str
    overrides: list[str]
    run: RunOverview
    config: Mapping[str, Any] | None = None


def read_jobs(sweep_dir: Path) -> list[Row]:
    """Return a row per requested job: completed ones first, the best of them first.

    Without validation images or folds, there is no best and completed jobs keep their order.

    Raises
    ------
    UserError
        If sweep.json is damaged.
    """
    rows = [_row(outcome) for outcome in read_outcomes(sweep_dir)]
    ranking = ranking_of(rows)

    def place(row: Row) -> tuple[bool, float]:
        return row.status != COMPLETED, 0.0 if ranking is None else ranking.place(value_of(row))

    return sorted(rows, key=place)


def read_outcomes(sweep_dir: Path) -> list[Outcome]:
    """Return the outcome of each requested job, in the order requested.

    Raises
    ------
    UserError
        If sweep.json is damaged.
    """
    sweep = read_sweep(sweep_dir) if (sweep_dir / SWEEP_FILE).exists() else None
    if sweep is None or sweep.version == 0:  # older commits did not record jobs
        return _outcomes_of_directories(sweep_dir)
    if sweep.jobs is None:
        return [_recorded_outcome(sweep_dir, sweep, number) for number in begun_jobs(sweep_dir)]
    return [_recorded_outcome(sweep_dir, sweep, job.number, job) for job in sweep.jobs]


def ranking_of(rows: Iterable[Row]) -> Ranking | None:
    """Return what ranks the jobs: their objective, if every completed job has it; else None.

    Test accuracy never does: of a setting that it chose, it would be too high.
    """
    scores = [row.score for row in rows if row.status == COMPLETED]
    rankings = {None if score is None else score.ranking for score in scores}
    return rankings.pop() if len(rankings) == 1 else None


def value_of(row: Row) -> float | None:
    """Return a job's objective."""
    return None if row.score is None else row.score.value


def read_outcome(
    sweep_dir: Path, job: JobRecord, objective: Objective = VALIDATION_ACCURACY
) -> RunOverview:
    """Return the outcome of a job that began, ignoring results of another configuration."""
    directory = sweep_dir / job.directory
    if job.status == "refused":
        return RunOverview(directory, "failed", job.error)
    run = read_overview(directory, objective)
    own = run.begun and run.config_hash in (None, job.config_hash)
    if run.status == DAMAGED or own:
        return as_job(run)
    if job.status == COMPLETED:
        return RunOverview(directory, "failed", "its results.json was deleted or replaced")
    if job.status == "running" and not is_locked(directory):
        return RunOverview(directory, "interrupted", NO_PROCESS)
    return RunOverview(directory, job.status, job.error)


def _outcome_of(sweep_dir: Path, job: JobRecord, objective: Objective) -> RunOverview:
    """Return `read_outcome`; that of a job that ended is kept until one of its files changes.

    A running sweep rewrites its tables and its page, and most of the jobs in them ended long ago.
    """
    directory = sweep_dir / job.directory
    try:
        file = (directory / RESULTS).stat()  # before it is read
    except OSError:
        return read_outcome(sweep_dir, job, objective)
    origin = (job, objective, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns)
    known = _ended.get(directory)
    if known is not None and known[0] == origin:
        return known[1]
    run = read_outcome(sweep_dir, job, objective)
    # a second write of the same size could have the same time if it followed at once
    if run.status in (COMPLETED, PRUNED) and time.time() - file.st_mtime > RECENT_SECONDS:
        _ended[directory] = (origin, run)
    return run


_ended: dict[Path, tuple[tuple[Any, ...], RunOverview]] = {}


def as_job(run: RunOverview) -> RunOverview:
    """Map a run's status to a job's: dead becomes interrupted, damaged failed, some pruned."""
    if run.status == COMPLETED and run.stopped.startswith(PRUNED):
        return replace(run, status=PRUNED, error=run.stopped)
    return replace(run, status={DEAD: "interrupted", DAMAGED: "failed"}.get(run.status, run.status))


def swept_settings(rows: Sequence[Row]) -> list[str]:
    """Return the settings that differ between jobs, in command-line order."""
    names = dict.fromkeys(name for row in rows for name in row.overrides)
    return [name for name in names if len({row.overrides.get(name) for row in rows}) > 1]


def measured(row: Row) -> dict[str, float | None]:
    """Return what a job measured by column of sweep.csv; a `Share` is read in per cent."""
    accuracies = {"accuracy": row.accuracy, "validation_accuracy": row.validation}
    shares = {name: None if value is None else Share(value) for name, value in accuracies.items()}
    objective = {} if row.score is None else {row.score.ranking.column: row.score.value}
    return {**shares, **objective, **row.metrics}


def measured_columns(rows: Iterable[Row]) -> list[str]:
    """Return the columns of `measured` for a table: accuracy, and those that any job has."""
    columns = {"accuracy": None}
    for row in rows:
        columns |= {name: None for name, value in measured(row).items() if value is not None}
    return list(columns)


def count_by_status(rows: Iterable[Row | RunOverview]) -> str:
    """Count jobs by status, for example ``8 completed, 1 failed``."""
    states = [row.status for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _outcomes_of_directories(sweep_dir: Path) -> list[Outcome]:
    directories = [path.parents[1] for path in sweep_dir.rglob(".hydra/overrides.yaml")]
    directories.sort(key=lambda path: [(len(part), part) for part in path.parts])  # 2 before 10
    outcomes = []
    for directory in directories:
        overrides: list[str] = []
        try:
            overrides = load_overrides(directory / ".hydra" / "overrides.yaml")
            run = as_job(read_overview(directory))
            if not run.begun and run.status != "running":
                run = RunOverview(directory, "failed", NO_RESULTS)
        except UserError as error:
            run = RunOverview(directory, "failed", str(error))
        outcomes.append(Outcome(directory.relative_to(sweep_dir).as_posix(), overrides, run))
    return outcomes


def _recorded_outcome(
    sweep_dir: Path, sweep: SweepRecord, number: int, asked: AskedJob | None = None
) -> Outcome:
    config = None if asked is None else asked.config
    try:
        job = read_job(sweep_dir, number)
    except UserError as error:
        name = str(number) if asked is None else asked.directory
        failed = RunOverview(sweep_dir / name, "failed", str(error))
        return Outcome(name, asked.overrides if asked else [], failed, config)
    if job is None:
        assert asked is not None
        never = RunOverview(sweep_dir / asked.directory, NEVER_BEGAN)
        return Outcome(asked.directory, asked.overrides, never, config)
    objective = Objective(sweep.objective, sweep.direction)
    run = _outcome_of(sweep_dir, job, objective)
    return Outcome(job.directory, job.overrides, run, config)


def row_of(sweep_dir: Path, job: JobRecord) -> Row:
    """Return the row of a job that began."""
    objective = VALIDATION_ACCURACY
    with contextlib.suppress(UserError):  # damaged: the table says so
        sweep = read_sweep(sweep_dir)
        objective = Objective(sweep.objective, sweep.direction)
    run = read_outcome(sweep_dir, job, objective)
    return _row(Outcome(job.directory, job.overrides, run, None))


def _row(outcome: Outcome) -> Row:
    run = outcome.run
    completed = run.status == COMPLETED
    return Row(
        job=outcome.job,
        overrides=values_by_key(outcome.overrides),
        status=run.status,
        accuracy=run.accuracy if completed else None,
        std=run.std if completed else None,
        wall_seconds=run.wall_seconds,
        error=run.error,
        validation=run.validation if completed else None,
        metrics=run.metrics if completed else {},
        threads=run.threads,
        host=run.host,
        folds=run.folds,
        score=run.score if completed else None,
    )

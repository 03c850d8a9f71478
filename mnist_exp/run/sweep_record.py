"""sweep.json and .jobs/: how a sweep was started, its jobs and the status of each.

Hydra's own files cannot serve: settings can move or omit them, and a job that never began has none.
Both kinds of file may be untrusted and are checked when read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeVar

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_json
from mnist_exp.files.regular import read_json
from mnist_exp.run.formats import COUNT, STRING, ListOf, MapOf, Shape, check_format, shown
from mnist_exp.run.objective import DEFAULT, MAXIMIZE, MINIMIZE
from mnist_exp.schema import BOOLEAN, Rule, one_of, optional
from mnist_exp.schema.keys import OBJECTIVE

SWEEP_FILE = "sweep.json"
JOBS = ".jobs"  # one file per job, as jobs may run in separate processes
VERSION = 1
LARGEST_FILE = 1 << 26  # bytes; a job takes about 4 kB of sweep.json
LONGEST_TEXT = 10_000  # characters of an override or a name
Record = TypeVar("Record")
STATUSES = ("running", "completed", "pruned", "interrupted", "failed", "refused")


@dataclass(frozen=True)
class AskedJob:
    """A job as the sweep requested it.

    Attributes
    ----------
    number : int
        Hydra's ``hydra.job.num``, from 0.
    overrides : list of str
        As typed, one value per swept setting.
    directory : str
        Relative to the sweep's.
    config : dict or None
        Its resolved configuration; None if it can only be resolved on the machine that runs it.
    """

    number: int
    overrides: list[str]
    directory: str
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class SweepRecord:
    """How a sweep was started.

    Attributes
    ----------
    overrides, hydra_overrides : list of str
        Command-line overrides as typed; those of Hydra separately.
    params : dict
        ``hydra.sweeper.params``, the sweep defined by a preset.
    config_dir, config_path, config_name : str or None
        ``--config-dir``, ``--config-path`` and ``--config-name``, with absolute paths; None if not
        given, or not recorded by an older commit.
    launcher, sweeper : str or None
        Options of ``hydra/launcher`` and ``hydra/sweeper``.
    jobs : list of AskedJob or None
        None if the sweeper chooses jobs during the sweep, or an older commit did not record them.
    resumed : bool
        Whether the sweep was ever resumed.
    threads : int or None
        CPU threads of a job whose settings name none; None if an older commit did not fix them.
    objective : str
        Column that ranks the jobs, and that a search chooses by.
    direction : str
        "maximize" or "minimize".
    version : int
        0 for a file of an older commit, which has only the first three entries.
    """

    overrides: list[str]
    hydra_overrides: list[str]
    params: dict[str, Any]
    config_dir: str | None = None
    config_path: str | None = None
    config_name: str | None = None
    launcher: str | None = None
    sweeper: str | None = None
    jobs: list[AskedJob] | None = None
    resumed: bool = False
    threads: int | None = None
    objective: str = DEFAULT
    direction: str = MAXIMIZE
    version: int = 0

    @cached_property
    def fixed(self) -> set[str]:
        """The overrides that all jobs share; of jobs that a search chooses, those typed as such."""
        if self.jobs:
            return set(self.jobs[0].overrides).intersection(*(job.overrides for job in self.jobs))
        return set(self.overrides)


@dataclass
class JobRecord:
    """The status of a job.

    Attributes
    ----------
    number, overrides, directory
        As in `AskedJob`.
    config_hash : str or None
        Hash of its configuration, which identifies its results; None if refused before it began.
    status : str
        One of `STATUSES`; "refused" if its directory or configuration is not its own.
    error : str
        Why it failed or stopped; empty otherwise.
    """

    number: int
    overrides: list[str]
    directory: str
    config_hash: str | None = None
    status: str = "running"
    error: str = ""
    version: int = field(default=VERSION)


def write_sweep(sweep_dir: Path, record: SweepRecord) -> None:
    """Replace sweep.json."""
    write_json(sweep_dir / SWEEP_FILE, asdict(record) | {"version": VERSION})


def write_job(sweep_dir: Path, record: JobRecord) -> None:
    """Replace the record of a job."""
    write_json(_job_file(sweep_dir, record.number), asdict(record))


def read_sweep(sweep_dir: Path) -> SweepRecord:
    """Read and check sweep.json.

    Raises
    ------
    UserError
        If it is missing, damaged or of a later version.
    """
    path = sweep_dir / SWEEP_FILE
    with contextlib.suppress(OSError):
        status = path.lstat()
        return _read_sweep(path, status.st_ino, status.st_mtime_ns, status.st_size)
    return _read_sweep(path)


@lru_cache(maxsize=1)  # each job reads it, and it names all jobs
def _read_sweep(path: Path, *version: int) -> SweepRecord:
    """Read and check sweep.json; ``version`` tells a file from the one that it replaced."""
    values = _read(path, SWEEP)
    if values.get("jobs") is not None:
        jobs = values["jobs"]
        check_format(jobs, ListOf(ASKED), path)
        values["jobs"] = [_built(AskedJob, ASKED, job, path) for job in jobs]
        if [job.number for job in values["jobs"]] != list(range(len(jobs))):
            raise UserError(f"{path}: is damaged; its jobs are not numbered from 0 on.")
    return _built(SweepRecord, {key.rstrip("?") for key in SWEEP}, values, path)


def read_job(sweep_dir: Path, number: int) -> JobRecord | None:
    """Read and check the record of a job; return None if it never began.

    Raises
    ------
    UserError
        If it is damaged or of a later version.
    """
    path = _job_file(sweep_dir, number)
    if not path.exists():
        return None
    record = _built(JobRecord, JOB, _read(path, JOB), path)
    if record.number != number:
        raise UserError(f"{path}: is damaged; it is of job {record.number}.")
    return record


def begun_jobs(sweep_dir: Path) -> list[int]:
    """Return the numbers of the jobs with a record, ascending."""
    names = (path.stem for path in (sweep_dir / JOBS).glob("*.json"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def is_directory_name(value: Any) -> bool:
    """Whether ``value`` names a directory inside the sweep's that is not one of its own files."""
    if not is_text(value):
        return False
    path = PurePath(value)
    return bool(path.parts) and not (
        path.is_absolute() or ".." in path.parts or path.parts[0] in (JOBS, SWEEP_FILE)
    )


def is_text(value: Any) -> bool:
    """Whether ``value`` is a printable string of at most `LONGEST_TEXT` characters."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT


TEXT = Rule(is_text, f"a text of at most {LONGEST_TEXT} characters, no control characters")
VERSION_READ = Rule(
    lambda value: COUNT.accepts(value) and value <= VERSION, f"a version up to {VERSION}"
)
PARAM = Rule(lambda value: is_text(value) or isinstance(value, (int, float)), "a text or number")
ASKED: dict[str, Shape] = {
    "number": COUNT,
    "overrides": ListOf(TEXT),
    "directory": Rule(is_directory_name, "a directory inside the sweep's"),
    "config": Rule(lambda value: value is None or isinstance(value, dict), "null or an object"),
}
SWEEP: dict[str, Shape] = {
    "overrides": ListOf(TEXT),
    "hydra_overrides": ListOf(TEXT),
    "params": MapOf(PARAM),
    "config_dir?": optional(TEXT),
    "config_path?": optional(TEXT),
    "config_name?": optional(TEXT),
    "launcher?": optional(TEXT),
    "sweeper?": optional(TEXT),
    "jobs?": Rule(lambda value: value is None or isinstance(value, list), "null or a list"),
    "resumed?": BOOLEAN,
    "threads?": optional(COUNT),
    "objective?": OBJECTIVE,
    "direction?": one_of(MAXIMIZE, MINIMIZE),
    "version?": VERSION_READ,
}
JOB: dict[str, Shape] = {
    **{key: shape for key, shape in ASKED.items() if key != "config"},
    "config_hash": optional(TEXT),
    "status": one_of(*STATUSES),
    "error": STRING,
    "version": VERSION_READ,
}


def _job_file(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / JOBS / f"{number}.json"


def _read(path: Path, shape: Shape) -> dict[str, Any]:
    try:
        values = read_json(path, LARGEST_FILE)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    check_format(values, shape, path)
    return dict(values)


def _built(kind: Callable[..., Record], names: Collection[str], values: Any, path: Path) -> Record:
    unknown = sorted(values.keys() - names)
    if unknown:
        raise UserError(f"{path}: is damaged: {shown(unknown[0])} is not a key of it.")
    return kind(**values)

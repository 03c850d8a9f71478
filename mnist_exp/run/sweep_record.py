"""sweep.json and .jobs/: how a sweep was started, which jobs it asked for, how each of them stands.

Hydra's own files do not serve: settings move them or leave them out, and a job that never began has
none. Both files may come from somebody else, so each is checked when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.run.files import write_json

SWEEP_FILE = "sweep.json"
JOBS = ".jobs"  # a file a job, for jobs may run in other processes
VERSION = 1
LARGEST_FILE = 1 << 26  # bytes; a job takes about 4 kB of sweep.json
LONGEST_TEXT = 10_000  # characters of an override or a name
STATUSES = ("running", "completed", "interrupted", "failed", "refused")


@dataclass(frozen=True)
class AskedJob:
    """A job as the sweep asked for it.

    Attributes
    ----------
    number : int
        Hydra's ``hydra.job.num``, from 0.
    overrides : list of str
        As typed, one value for each setting that is swept.
    directory : str
        Relative to the sweep's.
    config : dict or None
        What it trains, resolved; None where that shows only on the machine it runs on.
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
        Settings of the command line as typed, those of Hydra apart.
    params : dict
        ``hydra.sweeper.params``: what a preset sweeps.
    config_dir, config_path, config_name : str or None
        ``--config-dir``, ``--config-path`` and ``--config-name``, paths absolute; None where the
        command did not give them, or an older commit did not record them.
    launcher, sweeper : str or None
        Options of ``hydra/launcher`` and ``hydra/sweeper``.
    jobs : list of AskedJob or None
        None if the sweeper chooses them as it goes, or an older commit did not record them.
    resumed : bool
        Whether it was ever gone on with.
    version : int
        0 for a file of an older commit, which holds the first three entries alone.
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
    version: int = 0


@dataclass
class JobRecord:
    """How a job stands.

    Attributes
    ----------
    number, overrides, directory
        As in `AskedJob`.
    config_hash : str or None
        Of what it trains, by which its results are known; None if it was refused before it began.
    status : str
        One of `STATUSES`; "refused" is a job whose directory or configuration is not its own.
    error : str
        Why it failed or stopped, empty if it did not.
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
    values = _read(path, SWEEP_RULES, ("overrides", "hydra_overrides", "params"))
    if values.get("jobs") is not None:
        jobs = [_checked(path, job, ASKED_RULES, ASKED_RULES) for job in values["jobs"]]
        values["jobs"] = [AskedJob(**job) for job in jobs]
        if [job.number for job in values["jobs"]] != list(range(len(jobs))):
            raise UserError(f"{path}: is damaged; its jobs are not numbered from 0 on.")
    return SweepRecord(**values)


def read_job(sweep_dir: Path, number: int) -> JobRecord | None:
    """Read and check the record of a job, None if it never began.

    Raises
    ------
    UserError
        If it is damaged or of a later version.
    """
    path = _job_file(sweep_dir, number)
    if not path.exists():
        return None
    record = JobRecord(**_read(path, JOB_RULES, JOB_RULES))
    if record.number != number:
        raise UserError(f"{path}: is damaged; it is of job {record.number}.")
    return record


def begun_jobs(sweep_dir: Path) -> list[int]:
    """Return the numbers of the jobs that have a record, in their order."""
    names = (path.stem for path in (sweep_dir / JOBS).glob("*.json"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def is_directory_name(value: Any) -> bool:
    """Whether a job's directory lies inside its sweep's, beside the sweep's own files."""
    if not is_text(value):
        return False
    path = PurePath(value)
    return bool(path.parts) and not (
        path.is_absolute() or ".." in path.parts or path.parts[0] in (JOBS, SWEEP_FILE)
    )


def is_text(value: Any) -> bool:
    """Whether ``value`` is a text without control characters and of sensible length."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(is_text(text) for text in value)


def _is_params(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_text(key) and (is_text(item) or isinstance(item, (int, float)))
        for key, item in value.items()
    )


def _optional(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


Rule = Callable[[Any], bool]
SWEEP_RULES: dict[str, Rule] = {
    "overrides": _is_texts,
    "hydra_overrides": _is_texts,
    "params": _is_params,
    "config_dir": _optional(is_text),
    "config_path": _optional(is_text),
    "config_name": _optional(is_text),
    "launcher": _optional(is_text),
    "sweeper": _optional(is_text),
    "jobs": _optional(lambda value: isinstance(value, list)),
    "resumed": lambda value: isinstance(value, bool),
    "version": _is_number,
}
ASKED_RULES: dict[str, Rule] = {
    "number": _is_number,
    "overrides": _is_texts,
    "directory": is_directory_name,
    "config": _optional(lambda value: isinstance(value, dict)),
}
JOB_RULES: dict[str, Rule] = {
    "number": _is_number,
    "overrides": _is_texts,
    "directory": is_directory_name,
    "config_hash": _optional(is_text),
    "status": lambda value: value in STATUSES,
    "error": lambda value: isinstance(value, str),
    "version": _is_number,
}


def _job_file(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / JOBS / f"{number}.json"


def _read(path: Path, rules: Mapping[str, Rule], required: Iterable[str]) -> Any:
    try:
        if not path.is_file():  # a pipe of that name would be waited for
            raise UserError(f"{path}: there is no such file.")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path}: is larger than {LARGEST_FILE >> 20} MB, so it is damaged.")
        values = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error
    return _checked(path, values, rules, required)


def _checked(
    path: Path, values: Any, rules: Mapping[str, Rule], required: Iterable[str]
) -> dict[str, Any]:
    """Return ``values`` if they are what a file of this format holds."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: is damaged; it holds no entries.")
    version = values.get("version", 0)
    if _is_number(version) and version > VERSION:
        raise UserError(f"{path}: has version {version}, this mnist_exp reads up to {VERSION}.")
    wrong = [key for key, value in values.items() if key not in rules or not rules[key](value)]
    wrong += [key for key in required if key not in values]
    if wrong:
        listed = ", ".join(repr(key[:40]) for key in wrong[:8])
        raise UserError(f"{path}: is damaged; wrong or missing: {listed}.")
    return values

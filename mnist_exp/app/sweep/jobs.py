"""List a sweep's jobs, with their configurations and directories, before the first begins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.core.utils import env_override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp import schema
from mnist_exp.app.composition import explained, user_directories
from mnist_exp.app.hints import hint
from mnist_exp.app.sweep.filter import JobFilter
from mnist_exp.app.sweep.grid import FILTER, grid, setting, zipped_groups
from mnist_exp.app.sweep.objective import check_measured, searches
from mnist_exp.errors import UserError
from mnist_exp.files.atomic import finite
from mnist_exp.run.saved_config import (
    RUN_KEYS,
    as_typed,
    key_of,
    make_paths_absolute,
    own_part,
    training_config,
    writable,
)
from mnist_exp.run.sweep_record import AskedJob, is_directory_name
from mnist_exp.schema.keys import ABSENT, select
from mnist_exp.wording import counted

NUMBER = "${hydra.job.num}"


class WrongSetting(UserError):
    """A setting of one job that is not allowed."""


def asked_jobs(
    config: DictConfig, threads: int | None, check: bool = False
) -> list[AskedJob] | None:
    """Return the jobs of a grid, zipped and filtered; None with a sweeper that searches.

    ``threads`` is as in `fix_threads`.

    Raises
    ------
    UserError
        If a job cannot be composed, would leave the sweep's directory, or (with ``check``) has a
        setting that is not allowed; if ``sweep.zip`` or ``sweep.filter`` cannot be applied, or that
        keeps no job.
    """
    if searches(config.hydra):
        return None
    params = config.hydra.sweeper.params or {}
    texts = [f"{key}={value}" for key, value in params.items()]
    overrides = _parsed([*texts, *as_typed(config.hydra.overrides.task)])
    jobs = grid(overrides, zipped_groups(config))
    expression = setting(config, FILTER)
    keeps = None if expression is None else JobFilter(expression)
    common = set(jobs[0]).intersection(*jobs) if jobs else set()
    asked: list[AskedJob] = []
    for job in jobs:
        number = len(asked)  # of the jobs that are kept
        try:
            found = _asked(_composed(config, number, job), job, threads, check, keeps)
        except WrongSetting as error:
            shared = {f"{key_of(text)}{sign}" for text in common for sign in "=:"}
            swept = [text for text in job if text not in common]
            if str(error).startswith(tuple(shared)) or not swept:  # wrong in every job
                raise
            raise UserError(f"job {number} ({' '.join(swept)}): {error}") from error
        asked += [found] if found is not None else []
    if jobs and not asked:
        all_jobs = counted(len(jobs), "job")
        raise UserError(
            f"{FILTER}={expression}: is true of no job; without it there are {all_jobs}."
        )
    return asked


def fix_order(config: DictConfig) -> None:
    """Expand shuffled sweeps and glob patterns, whose values could differ on resume."""
    with writable(config):
        overrides = config.hydra.overrides
        overrides.task = [_written_out(text) for text in as_typed(overrides.task)]
        for key, value in (config.hydra.sweeper.get("params") or {}).items():
            text = _written_out(f"{key}={value}")
            config.hydra.sweeper.params[key] = text.partition("=")[2]


def number_directories(config: DictConfig) -> None:
    """Append the job's number to ``hydra.sweep.subdir``."""
    subdir = _subdir(config)
    numbered = f"{subdir}-{NUMBER}"
    print(f"hydra.sweep.subdir={subdir} is the same for several jobs: {numbered} is used")
    with writable(config):
        config.hydra.sweep.subdir = numbered
        config.hydra.overrides.hydra.append(f"hydra.sweep.subdir={json.dumps(numbered)}")


def share_directories(config: DictConfig, jobs: list[AskedJob] | None) -> bool:
    """Whether two jobs would share a directory, or one lie inside another's.

    If the jobs are unknown (None), whether ``hydra.sweep.subdir`` lacks the job's number or id.
    """
    if jobs is None:
        subdir = _subdir(config)
        return not any(f"hydra{c}job.{key}" in subdir for c in ".:" for key in ("num", "id"))
    paths = [PurePath(job.directory) for job in jobs]
    taken = set(paths)
    return len(taken) < len(paths) or any(taken & {*path.parents} for path in paths)


def fix_threads(config: DictConfig, threads: int | None) -> None:
    """Set a job's CPU threads if its settings name none, so that every engine computes the same.

    Sums of floats depend on the number of threads, and engines differ in how many a job finds.
    """
    if config.get("threads") is None and threads is not None:
        config.threads = threads


def without_run_keys(overrides: list[str]) -> list[str]:
    """Drop overrides that select a run; what a search chooses by stays."""
    return [text for text in overrides if key_of(text) not in (*RUN_KEYS, "sweep.resume")]


def json_values(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as read back from a JSON file."""
    values: dict[str, Any] = json.loads(json.dumps(finite(config)))
    return values


def _subdir(config: DictConfig) -> str:
    """Return ``hydra.sweep.subdir`` with interpolations unresolved."""
    values: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    return str(values["subdir"])


def _parsed(texts: list[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()
    return OverridesParser.create(config_loader=loader).parse_overrides(texts)


def _written_out(text: str) -> str:
    (override,) = _parsed([text])
    values = override.value()
    if not isinstance(values, Glob) and not getattr(values, "shuffle", False):
        return text
    return f"{override.get_key_element()}={','.join(override.sweep_string_iterator())}"


def _composed(config: DictConfig, number: int, overrides: list[str]) -> DictConfig:
    """Compose a job as Hydra's launcher does."""
    try:
        job = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
    except Exception as error:  # whatever Hydra and OmegaConf make of a user's mistake
        raise WrongSetting(explained(error, overrides, user_directories(config))) from error
    with writable(job):
        job.hydra.job.id = job.hydra.job.num = number
    return job


def _asked(
    job: DictConfig,
    overrides: list[str],
    threads: int | None,
    check: bool,
    keeps: JobFilter | None,
) -> AskedJob | None:
    """Return what a composed job will train and where; None if ``keeps`` leaves it out."""
    number = job.hydra.job.num
    hint_for = partial(hint, directories=user_directories(job))
    current = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().cfg = job  # type: ignore[assignment]  # set_config would copy it all
        if keeps is not None and not _is_kept(job, keeps, hint_for):
            return None
        directory = _directory(job, number, "sweep.subdir")
        with writable(job):
            job.hydra.runtime.output_dir = os.path.abspath(Path(job.hydra.sweep.dir) / directory)
        if job.hydra.output_subdir is not None:
            _directory(job, number, "output_subdir")
        with env_override(job.hydra.job.env_set):
            own = own_part(job)
            fix_threads(own, threads)
            if check:
                _check(own, hint_for)
            make_paths_absolute(own, job.hydra.runtime.cwd)
            trained = json_values(training_config(own))
    except OmegaConfBaseException:  # known only on the job's machine, or fails there
        return AskedJob(number, without_run_keys(overrides), directory)
    finally:
        HydraConfig.instance().cfg = current
    return AskedJob(number, without_run_keys(overrides), directory, trained)


def _is_kept(job: DictConfig, keeps: JobFilter, hint_for: Callable[..., str]) -> bool:
    """Whether ``sweep.filter`` is true of a job; a group's name stands for its option."""
    choices: Any = OmegaConf.to_container(job.hydra.runtime.choices)
    try:
        with env_override(job.hydra.job.env_set):
            values = schema.resolved_values(own_part(job))
    except OmegaConfBaseException as error:
        raise WrongSetting(f"{FILTER}: {schema.unresolved(error)}") from error

    def value_of(key: str) -> Any:
        value = select(values, key)
        if key in choices and (value is ABSENT or isinstance(value, dict)):
            return choices[key]
        if value is ABSENT:
            raise UserError(
                f"{FILTER}: {key}: there is no such key in this job; {hint_for(key, values)}"
            )
        if isinstance(value, dict):
            raise UserError(f"{FILTER}: {key}: is a group; name one of its settings.")
        return value

    try:
        return keeps.keeps(value_of)
    except UserError as error:
        raise WrongSetting(str(error)) from error


def _check(own: DictConfig, hint_for: Callable[..., str]) -> None:
    try:
        schema.check(own, hint_for)
        check_measured(own)
    except UserError as error:
        raise WrongSetting(str(error)) from error


def _directory(job: DictConfig, number: int, key: str) -> str:
    try:
        directory = str(OmegaConf.select(job.hydra, key, throw_on_missing=True))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"hydra.{key}: cannot be resolved for job {number} ({reason}).") from error
    if not is_directory_name(directory):
        raise UserError(
            f"hydra.{key}={directory}: allowed is a directory inside hydra.sweep.dir, "
            "relative to it, without '..'."
        )
    return PurePath(directory).as_posix()

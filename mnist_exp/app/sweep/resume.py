"""Resume a sweep exactly as it was started."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mnist_exp.app.run_directories import hold, use_directory
from mnist_exp.app.search.settings import check_search
from mnist_exp.app.sweep.grid import check_grid
from mnist_exp.app.sweep.jobs import asked_jobs
from mnist_exp.app.sweep.overrides import check_links, check_trusted
from mnist_exp.app.sweep.start import announce
from mnist_exp.errors import UserError
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import as_typed, key_of, writable
from mnist_exp.run.sweep_record import (
    VERSION,
    AskedJob,
    SweepRecord,
    read_job,
    read_sweep,
    write_sweep,
)
from mnist_exp.run.yaml_files import load_yaml

RESUME = "sweep.resume"


def resumed_arguments(arguments: list[str]) -> list[str]:
    """Return the command line that resumes a sweep: its first one plus ``arguments``.

    Parameters
    ----------
    arguments : list of str
        The command line without the program's name.

    Returns
    -------
    list of str
        ``arguments`` unchanged if they resume no sweep.

    Raises
    ------
    UserError
        If there is no such sweep, ``arguments`` change a setting, or ``trust=true`` is needed.
    """
    if not any(key_of(argument) == RESUME for argument in arguments):
        return arguments
    given = get_args_parser().parse_args(arguments)
    values = {key_of(text): _value(text) for text in given.overrides}
    if values.get(RESUME) is None:
        return arguments
    directory = _sweep_directory(values[RESUME])
    own = [text for text in given.overrides if key_of(text).startswith(("hydra.", "hydra/"))]
    others = [t for t in given.overrides if t not in own and key_of(t) not in (RESUME, "trust")]
    if others:
        raise UserError(
            f"{' '.join(others)}: {RESUME} runs the rest of a sweep as it was started; give no "
            "other settings."
        )
    saved = _read(directory, trust=values.get("trust") is True)
    flags = ["--multirun"]
    for flag in ("config_dir", "config_path", "config_name"):
        value = getattr(saved, flag)
        if value is not None and getattr(given, flag) is None:
            flags.append(f"--{flag.replace('_', '-')}={value}")
            if flag != "config_name":
                print(f"goes on with {flags[-1]}, as the sweep was started")
    flags += [argument for argument in arguments if argument not in given.overrides]
    typed = {key_of(text) for text in own}
    engine = {"hydra/launcher": saved.launcher, "hydra/sweeper": saved.sweeper}
    again = [text for text in saved.hydra_overrides if key_of(text) not in typed]
    if "hydra/launcher" in typed:  # another one may lack the settings of the first
        again = [text for text in again if not key_of(text).startswith("hydra.launcher.")]
    typed |= {key_of(text) for text in again}
    again += [f"{key}={option}" for key, option in engine.items() if option and key not in typed]
    return [*flags, *again, *saved.overrides, *given.overrides]


def resume_sweep(config: DictConfig) -> None:
    """Change ``config`` to resume a sweep; jobs that have begun keep Hydra's files.

    Raises
    ------
    UserError
        If there is no such sweep, another process works on it, its jobs have changed, or
        ``trust=true`` is needed.
    """
    directory = _sweep_directory(config.sweep.resume).absolute()
    saved = _read(directory, trust=config.get("trust") is True)
    hold(config, directory, "sweep")
    with writable(config):
        overrides = config.hydra.overrides
        overrides.task = [text for text in as_typed(overrides.task) if key_of(text) != RESUME]
        if saved.params:
            config.hydra.sweeper.params = saved.params
    check_grid(config)
    check_search(config)
    use_directory(config, "sweep", directory)
    if saved.version == 0:
        _check_invocation(config, directory)
    _keep_hydra_files(config)
    jobs = asked_jobs(config, saved.threads)
    if saved.jobs is not None:
        _check_same_jobs(saved.jobs, jobs, directory)
        jobs = saved.jobs
    if config.get("trust") is not True:
        check_links(directory, jobs or [])
    write_sweep(directory, replace(saved, jobs=jobs, resumed=True, version=VERSION))
    announce(jobs, directory)


def hydra_files(sweep_dir: str, number: int, subdir: str, name: str) -> str | None:
    """Return the sub-directory for Hydra's files of a job; None if the job has begun."""
    directory = Path(sweep_dir)
    try:
        record = read_job(directory, number)
    except UserError:  # damaged: judge by the job's files
        record = None
    begun = record is not None and record.config_hash is not None
    return None if begun or (directory / subdir / RESULTS).exists() else name


# on import, so that a launcher's processes have the resolver too
OmegaConf.register_new_resolver("hydra_files", hydra_files, replace=True)


def _read(directory: Path, trust: bool) -> SweepRecord:
    try:
        saved = read_sweep(directory)
    except UserError as error:
        raise UserError(
            f"{RESUME}={directory}: is not a sweep that can be resumed. {error} Give the "
            "directory that holds the jobs' directories."
        ) from error
    if not trust:
        check_trusted(directory, saved)
    return saved


def _keep_hydra_files(config: DictConfig) -> None:
    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)
    name = hydra["output_subdir"]
    if name is None:
        return
    job = "${hydra.sweep.dir},${hydra.job.num},${hydra.sweep.subdir}"
    text = f"${{hydra_files:{job},{json.dumps(name)}}}"
    with writable(config):
        config.hydra.overrides.hydra.append(f"hydra.output_subdir='{text}'")


def _check_invocation(config: DictConfig, directory: Path) -> None:
    """Check the configuration's source against multirun.yaml, for sweeps of older versions.

    Raises
    ------
    UserError
        If the sweep was started with another source.
    """
    path = directory / "multirun.yaml"
    if not path.is_file():
        return
    try:
        saved = load_yaml(path)
        before, now = _source(saved), _source(config)
    except (OSError, YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error
    if before != now:
        raise UserError(
            f"{RESUME}={directory}: was started with --config-name={before[0]}"
            + (f" --config-dir={before[1]}" if before[1] else "")
            + ". Give the same again."
        )


def _source(config: Any) -> tuple[str, str | None]:
    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)
    paths = [
        source["path"]
        for source in hydra["runtime"]["config_sources"]
        if source["provider"] == "command-line"
    ]
    return hydra["job"]["config_name"], paths[0] if paths else None


def _check_same_jobs(before: list[AskedJob], now: list[AskedJob] | None, directory: Path) -> None:
    def asked(jobs: list[AskedJob] | None) -> list[tuple[list[str], str]]:
        return [(job.overrides, job.directory) for job in jobs or ()]

    if asked(before) != asked(now):
        raise UserError(
            f"{RESUME}={directory}: its jobs or their directories have changed since it was "
            "started. Go on with the configuration it was started with."
        )


def _sweep_directory(value: object) -> Path:
    """Return the directory that ``sweep.resume`` names, also by a file in it."""
    path = Path(str(value))
    return path.parent if path.is_file() else path


def _value(override: str) -> Any:
    try:
        value = OverridesParser.create().parse_override(override).value()
        return OmegaConf.create({"value": value}).value  # without escapes
    except (HydraException, OmegaConfBaseException):  # Hydra itself reports it later
        return None

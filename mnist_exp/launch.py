"""What Hydra calls around a run or a sweep: check the settings, find and lock the directory."""

from __future__ import annotations

import atexit
import difflib
import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.run.files import write_json
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import (
    check_extends,
    differences,
    load_config,
    resume_command,
    save_config,
    training_config,
)
from mnist_exp.sweep import print_table, report

USER_ERROR_EXIT_CODE = 2
FAILURE_EXIT_CODE = 1
SWEEP_FILE = "sweep.json"  # the sweep's command line; Hydra's multirun.yaml is not written safely

_locks: list[DirectoryLock] = []  # held until the process ends


class Directories(Callback):
    """Give every run and every sweep a directory that no other process writes to.

    Hydra makes its own files only later, so that a wrong setting leaves nothing behind.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration and claim ``hydra.run.dir``, or the directory to resume."""
        try:
            if config.resume is not None and config.reproduce is not None:
                raise UserError("resume and reproduce: give one of them.")
            if config.resume is not None:
                resume(config)
            else:
                if config.reproduce is not None:
                    use_reference(config)
                check_job(config)
                claim(config, "run")
        except Exception as error:
            refuse(error)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim ``hydra.sweep.dir``, or the sweep to resume; each job checks its own settings."""
        try:
            if config.resume is not None or config.reproduce is not None:
                raise UserError(
                    "resume and reproduce take one run, not a sweep. Give sweep.resume=SWEEP_DIR "
                    "for a sweep, or leave --multirun out."
                )
            if config.sweep.resume is not None:
                resume_sweep(config)
            else:
                directory = claim(config, "sweep")
                overrides = list(config.hydra.overrides.task)
                write_json(directory / SWEEP_FILE, {"overrides": overrides})
        except Exception as error:
            refuse(error)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of the sweep; the exit code tells whether every job is completed."""
        rows = report(Path(config.hydra.sweep.dir))
        print_table(rows)
        if any(row.status != COMPLETED for row in rows):
            sys.exit(FAILURE_EXIT_CODE)


def check_job(config: DictConfig) -> None:
    """Check the part of a composed configuration that is not Hydra's own.

    Raises
    ------
    UserError
        Listing every mistake.
    """
    try:
        schema.check(own_part(config))
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be resolved: {error}") from error


def own_part(config: DictConfig) -> DictConfig:
    """Return a configuration without Hydra's node."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def resume(config: DictConfig) -> None:
    """Turn ``config`` into that of the run to resume, in that run's directory.

    Raises
    ------
    UserError
        If there is no such run, another process works on it, or a setting differs in more than
        additional epochs.
    """
    directory = Path(config.resume)
    load_config(directory, "resume")  # no lock is left in a directory that is no run's
    if not (directory / RESULTS).exists() and not (directory / "checkpoints").exists():
        raise UserError(
            f"resume={directory}: that run was stopped before it began to train, so there is "
            "nothing to go on from. Start it again."
        )
    hold(directory)
    saved = load_config(directory, "resume")
    epochs = asked_epochs(config, saved, directory, "resume")
    if epochs is not None:
        saved.training.epochs = epochs
        save_config(directory, saved)
    take_over(config, saved)
    check_job(config)
    with read_write(config), open_dict(config):
        config.hydra.run.dir = str(directory)
        config.hydra.output_subdir = None  # what .hydra holds stays as it is


def use_reference(config: DictConfig) -> None:
    """Turn ``config`` into that of the finished run to reproduce, in a directory of its own.

    Raises
    ------
    UserError
        If there is no such run, it is not finished, or the command gives other settings.
    """
    directory = Path(config.reproduce)
    saved = load_config(directory, "reproduce")
    results = read_results(directory)
    if results is None or results["status"] != COMPLETED:
        status = "without results" if results is None else results["status"]
        raise UserError(
            f"reproduce={directory}: that run is {status}, so there is nothing to compare with. "
            f"Finish it first: {resume_command(directory)}"
        )
    if asked_epochs(config, saved, directory, "reproduce") is not None:
        raise UserError(f"reproduce={directory}: runs with that run's own training.epochs.")
    saved.reproduce = str(directory.absolute())
    take_over(config, saved)


def asked_epochs(config: DictConfig, saved: DictConfig, directory: Path, key: str) -> int | None:
    """Return the epochs to which the command line extends a saved configuration, if it does.

    Raises
    ------
    UserError
        If it changes anything else.
    """
    overrides = [o for o in config.hydra.overrides.task if not o.startswith(f"{key}=")]
    if not overrides:
        return None
    path = directory / ".hydra" / "overrides.yaml"
    earlier = [*OmegaConf.load(path)] if path.is_file() else []
    earlier.append(f"training.epochs={saved.training.epochs}")  # may have been extended since
    try:
        base, asked = (
            training_config(compose("config", last_of_each_key(given)))
            for given in (earlier, earlier + overrides)
        )
    except HydraException as error:
        raise UserError(
            f"{key}={directory}: {' '.join(overrides)} does not go together with the settings of "
            f"that run, {' '.join(earlier)} ({error}). Only training.epochs may be raised."
        ) from error
    before = training_config(saved)
    # only what the command line itself changes counts, not what a file of conf/ says by now
    names = differences(base, asked).keys() & differences(before, asked).keys()
    check_extends(before, asked, names, f"{key}={directory}")
    return int(asked["training"]["epochs"]) if names else None


def last_of_each_key(overrides: list[str]) -> list[str]:
    """Drop overrides that a later one of the same key replaces; Hydra refuses doubled groups."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def take_over(config: DictConfig, saved: DictConfig) -> None:
    """Replace everything in ``config`` but Hydra's node by ``saved``."""
    with read_write(config), open_dict(config):
        for key in [str(key) for key in config if key != "hydra"]:
            del config[key]
        config.merge_with(saved)


def resume_sweep(config: DictConfig) -> None:
    """Turn ``config`` into that of the sweep to resume; jobs that have begun keep their files.

    Raises
    ------
    UserError
        If there is no such sweep, another process works on it, or a setting is given.
    """
    directory = Path(config.sweep.resume)
    others = [o for o in config.hydra.overrides.task if not o.startswith("sweep.resume=")]
    if others:
        raise UserError(
            f"{' '.join(others)}: sweep.resume runs the rest of a sweep as it was started; give "
            "no other settings."
        )
    try:
        overrides = json.loads((directory / SWEEP_FILE).read_text())["overrides"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"sweep.resume={directory}: is no sweep, {SWEEP_FILE} cannot be read ({error}). Give "
            "the directory that holds the jobs' directories."
        ) from error
    hold(directory)
    with read_write(config):
        config.hydra.overrides.task = overrides
    use_directory(config, "sweep", directory)
    OmegaConf.register_new_resolver("hydra_files", hydra_files, replace=True)
    job = "${hydra.sweep.dir}/${hydra.sweep.subdir}"
    config.hydra.overrides.hydra.append(f"hydra.output_subdir='${{hydra_files:{job}}}'")


def hydra_files(directory: str) -> str | None:
    """Return where Hydra saves a job's configuration; None if the job has begun and has it."""
    return None if (Path(directory) / RESULTS).exists() else ".hydra"


def claim(config: DictConfig, kind: str) -> Path:
    """Make the directory of a run or sweep; one that others use already gets a number behind it.

    Parameters
    ----------
    config : DictConfig
        With Hydra's part; ``hydra.<kind>.dir`` is changed where the directory is taken.
    kind : {"run", "sweep"}
        Which directory.

    Raises
    ------
    UserError
        If the directory cannot be made, or was asked for by name and holds something or is in
        use.
    """
    wanted = Path(config.hydra[kind].dir)
    named = any(o.startswith(f"hydra.{kind}.dir=") for o in config.hydra.overrides.hydra)
    try:
        if named:
            wanted.mkdir(parents=True, exist_ok=True)
            directory = wanted
        else:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            directory = _make_unused(wanted)
        if any(directory.iterdir()):
            raise UserError(
                f"hydra.{kind}.dir={wanted}: holds files already; give a new or empty directory, "
                f"or go on with what it holds: {resume_command(wanted, kind)}"
            )
    except OSError as error:
        raise UserError(
            f"hydra.{kind}.dir={wanted}: cannot be made ({error.strerror}). Give a directory "
            f"that you may write to: hydra.{kind}.dir=DIR."
        ) from error
    hold(directory)
    use_directory(config, kind, directory)
    return directory


def _make_unused(wanted: Path) -> Path:
    number = 1
    while True:
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            directory.mkdir()  # fails if it is there: of two that try, one wins
        except FileExistsError:
            number += 1
        else:
            return directory


def use_directory(config: DictConfig, kind: str, directory: Path) -> None:
    """Let Hydra use ``directory``, also in the configurations it composes for a sweep's jobs."""
    with read_write(config):
        config.hydra[kind].dir = str(directory)
        config.hydra.overrides.hydra.append(f"hydra.{kind}.dir={json.dumps(str(directory))}")


def hold(directory: Path) -> None:
    """Lock a directory until the process ends."""
    lock = DirectoryLock(directory)
    _locks.append(lock)
    atexit.register(lock.release)


def run_lock() -> DirectoryLock:
    """Return the lock of the run's directory."""
    return _locks[-1]


def refuse(error: Exception) -> NoReturn:
    """Print a user's mistake, or the traceback of anything else, and end the process.

    Hydra turns exceptions of a callback into warnings and would go on with the job.
    """
    if not isinstance(error, (UserError, HydraException)):
        traceback.print_exception(error)
        sys.exit(FAILURE_EXIT_CODE)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USER_ERROR_EXIT_CODE)


def composition_message(error: CompactHydraException) -> str:
    """Say why Hydra cannot compose the configuration, with the key that may have been meant."""
    message = str(error).partition("Config search path:")[0].strip()
    unknown = re.search(r"Could not override '(.+?)'", message)
    if unknown is None:
        return message
    key = unknown[1]
    close = difflib.get_close_matches(key, schema.RULES, n=1)
    meant = (
        f"did you mean {close[0]}?" if close else "python -m mnist_exp --cfg job lists all keys."
    )
    return f"{key}: there is no such key in this configuration; {meant}"

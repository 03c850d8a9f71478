"""Hydra callback of runs and sweeps: check the settings, then claim a directory."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mnist_exp import schema
from mnist_exp.app.resume import resume, use_reference
from mnist_exp.app.run_directories import claim
from mnist_exp.app.shipped_config import config_directory
from mnist_exp.app.sweep.resume import resume_sweep, start_sweep
from mnist_exp.errors import UserError
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.saved_config import own_part
from mnist_exp.run.sweep_table import Row, print_table, write_table
from mnist_exp.schema.parts import PARTS
from mnist_exp.terminal import printable, printable_lines

USER_ERROR_EXIT_CODE = 2
FAILURE_EXIT_CODE = 1


class Directories(Callback):
    """Give every run and every sweep a directory that no other process writes to.

    Hydra writes its own files afterwards, so a wrong setting leaves nothing behind.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration and claim ``hydra.run.dir``, or the directory to resume."""
        try:
            if config.resume is not None and config.reproduce is not None:
                raise UserError("resume and reproduce: give one of them.")
            if config.resume is not None:
                resume(config)
                check_job(config)
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
                start_sweep(config)
        except Exception as error:
            refuse(error)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the sweep's table; exit with 1 unless every job is completed."""
        try:
            rows = report(Path(config.hydra.sweep.dir))
        except Exception as error:
            refuse(error)
        print_table(rows)
        print(f"runs, sweep.csv and sweep.png: {printable(config.hydra.sweep.dir)}")
        if not rows or any(row.status != COMPLETED for row in rows):
            sys.exit(FAILURE_EXIT_CODE)


def check_job(config: DictConfig) -> None:
    """Check a composed configuration without Hydra's own part.

    Raises
    ------
    UserError
        Listing every mistake.
    """
    try:
        schema.check(own_part(config))
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be resolved: {error}") from error


def refuse(error: Exception) -> NoReturn:
    """Print a user's mistake, or the traceback of anything else, and end the process.

    Exits here because Hydra turns a callback's exceptions into warnings and runs the job anyway.
    """
    if not isinstance(error, (UserError, HydraException)):
        traceback.print_exception(error)
        sys.exit(FAILURE_EXIT_CODE)
    text = composition_message(error) if isinstance(error, CompactHydraException) else error
    print(f"error: {printable_lines(text)}", file=sys.stderr)
    sys.exit(USER_ERROR_EXIT_CODE)


def composition_message(error: CompactHydraException) -> str:
    """Return why Hydra cannot compose the configuration, and suggest a similar key."""
    message = str(error).partition("Config search path:")[0].strip()
    unknown = re.search(r"Could not override '(.+?)'", message)
    missing = re.search(r"Could not find '(.+)/(.+?)'", message)
    in_list = re.search(r"Could not load '(.+)/(.+?)'", message)
    if missing is not None and "Available options" in message:
        lines = message.partition("Available options")[2].splitlines()[1:]
        return _no_such_option(missing[1], missing[2], [line.strip() for line in lines])
    if in_list is not None:  # for an item of a list of options, Hydra names no others
        files = (config_directory() / in_list[1]).glob("*.yaml")
        return _no_such_option(in_list[1], in_list[2], sorted(file.stem for file in files))
    if unknown is None:
        return message
    key = unknown[1]
    if key.removeprefix("constraint.") in PARTS["mnist_exp.device.DeviceConstraint"]:
        return (
            f"{key}: there is no such key in this configuration; it is a setting of devices, and "
            "constraint=none has none. Choose some, such as constraint=memristor or "
            "constraint=clip."
        )
    close = difflib.get_close_matches(key, schema.RULES, n=1)
    meant = (
        f"did you mean {close[0]}?" if close else "python -m mnist_exp --cfg job lists all keys."
    )
    return f"{key}: there is no such key in this configuration; {meant}"


def _no_such_option(group: str, name: str, found: list[str]) -> str:
    options = [option for option in found if not option.startswith("_")]
    close = difflib.get_close_matches(name, options, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{group}={name}: there is no such option; allowed is {', '.join(options)}.{meant}"


def report(sweep_dir: Path) -> list[Row]:
    """Write sweep.csv and sweep.png for the jobs now in a sweep directory; return its rows."""
    from mnist_exp.plots.sweep import draw

    rows = write_table(sweep_dir)
    draw(rows, sweep_dir / "sweep.png")
    return rows

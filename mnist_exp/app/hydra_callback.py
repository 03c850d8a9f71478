"""Hydra callback of runs and sweeps: check the settings, then claim a directory."""

from __future__ import annotations

import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mnist_exp import schema
from mnist_exp.app.composition import explained, user_directories
from mnist_exp.app.hints import hint
from mnist_exp.app.hydra_values import hydra_values
from mnist_exp.app.resume import resume, use_reference
from mnist_exp.app.run_directories import claim
from mnist_exp.app.sweep.dry_run import list_jobs
from mnist_exp.app.sweep.grid import DRY_RUN, setting
from mnist_exp.app.sweep.launching import report
from mnist_exp.app.sweep.pace import has_page
from mnist_exp.app.sweep.resume import resume_sweep
from mnist_exp.app.sweep.start import start_sweep
from mnist_exp.errors import UserError
from mnist_exp.run.results import COMPLETED, PRUNED
from mnist_exp.run.saved_config import as_typed, own_part
from mnist_exp.run.sweep_table import print_table
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
            with hydra_values(config, "run"):
                self._take_run(config)
        except Exception as error:
            refuse(error)

    def _take_run(self, config: DictConfig) -> None:
        if setting(config, DRY_RUN) not in (None, False):
            raise UserError(
                f"{DRY_RUN}: lists the jobs of a sweep; add --multirun. The settings of one run: "
                "python -m mnist_exp --cfg job ..."
            )
        if config.get("resume") is not None and config.get("reproduce") is not None:
            raise UserError("resume and reproduce: give one of them.")
        if config.get("resume") is not None:
            resume(config)
            check_job(config, saved=True)
            return
        saved = config.get("reproduce") is not None
        if saved:
            use_reference(config)
        check_job(config, saved)
        claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim ``hydra.sweep.dir``, or the sweep to resume; a new sweep's jobs are all checked.

        A dry run ends the process here.
        """
        try:
            if config.get("resume") is not None or config.get("reproduce") is not None:
                raise UserError(
                    "resume and reproduce take one run, not a sweep. Give sweep.resume=SWEEP_DIR "
                    "for a sweep, or leave --multirun out."
                )
            if not isinstance(config.get("sweep"), DictConfig):
                raise UserError("sweep: takes no value; sweep.resume=DIR continues a sweep.")
            if config.sweep.get("resume") is not None:
                resume_sweep(config)
            elif setting(config, DRY_RUN) in (None, False):
                start_sweep(config)
            else:
                list_jobs(config)
                sys.exit(0)
        except CompactHydraException as error:  # a job cannot be composed
            overrides = as_typed(config.hydra.overrides.task)
            refuse(UserError(explained(error, overrides, user_directories(config))))
        except Exception as error:
            refuse(error)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the sweep's table; exit with 1 unless every job is completed or pruned."""
        try:
            rows = report(Path(config.hydra.sweep.dir), config)
        except Exception as error:
            refuse(error)
        print_table(rows)
        files = ", sweep.png and report.html" if has_page(config) else " and sweep.png"
        print(f"runs, tables{files}: {printable(config.hydra.sweep.dir)}")
        if not rows or any(row.status not in (COMPLETED, PRUNED) for row in rows):
            sys.exit(FAILURE_EXIT_CODE)


def check_job(config: DictConfig, saved: bool = False) -> None:
    """Check a composed configuration without Hydra's own part.

    Parameters
    ----------
    config : DictConfig
        The configuration of a run or a job.
    saved : bool
        Whether a run saved it, perhaps of an older version, which read keys that nothing reads now.

    Raises
    ------
    UserError
        Listing every mistake.
    """
    try:
        hint_for = partial(hint, directories=user_directories(config))
        schema.check(own_part(config), hint_for, unread=saved)
    except OmegaConfBaseException as error:
        raise UserError(schema.unresolved(error)) from error


def refuse(error: Exception) -> NoReturn:
    """Print a user's mistake, or the traceback of anything else, and end the process.

    Exits here because Hydra turns a callback's exceptions into warnings and runs the job anyway.
    """
    if not isinstance(error, (UserError, HydraException)):
        traceback.print_exception(error)
        sys.exit(FAILURE_EXIT_CODE)
    print(f"error: {printable_lines(error)}", file=sys.stderr)
    sys.exit(USER_ERROR_EXIT_CODE)

"""What Hydra calls before a run or a sweep begins: check the settings, claim a directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_exp import schema
from mnist_exp.errors import UserError

USER_ERROR_EXIT_CODE = 2


class Directories(Callback):
    """Give every run and every sweep a directory of its own, after a first check of the config.

    Hydra makes the directory only later, so that a wrong setting leaves nothing behind.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration and claim ``hydra.run.dir``."""
        try:
            check_job(config)
            claim(config, "run")
        except UserError as error:
            refuse(error)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim ``hydra.sweep.dir``; each job checks its own configuration."""
        try:
            claim(config, "sweep")
        except UserError as error:
            refuse(error)


def check_job(config: DictConfig) -> None:
    """Check the part of a composed configuration that is not Hydra's own.

    Raises
    ------
    UserError
        Listing every mistake.
    """
    job = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    try:
        schema.check(job)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be resolved: {error}") from error


def claim(config: DictConfig, kind: str) -> None:
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
        If the directory cannot be made, or was asked for by name and holds something.
    """
    node = config.hydra[kind]
    wanted = Path(node.dir)
    named = any(o.startswith(f"hydra.{kind}.dir=") for o in config.hydra.overrides.hydra)
    try:
        if named:
            wanted.mkdir(parents=True, exist_ok=True)
            if any(wanted.iterdir()):
                raise UserError(
                    f"hydra.{kind}.dir={wanted}: holds files already; give a new or empty "
                    "directory."
                )
            return
        wanted.parent.mkdir(parents=True, exist_ok=True)
        directory = _make_unused(wanted)
    except OSError as error:
        raise UserError(
            f"hydra.{kind}.dir={wanted}: cannot be made ({error.strerror}). Give a directory "
            f"that you may write to: hydra.{kind}.dir=DIR."
        ) from error
    with read_write(config):
        node.dir = str(directory)


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


def refuse(error: UserError) -> None:
    """Print a user's mistake and end the process."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USER_ERROR_EXIT_CODE)

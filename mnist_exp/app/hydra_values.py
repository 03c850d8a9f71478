"""Hydra's own values, for interpolations such as ``${hydra:runtime.cwd}``."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.errors import UserError


@contextlib.contextmanager
def hydra_values(config: DictConfig, directory: Path | str) -> Iterator[None]:
    """Let ``${hydra:...}`` resolve in a block as in the job of ``config``.

    Hydra itself does so only while a job runs.

    Parameters
    ----------
    config : DictConfig
        With Hydra's part.
    directory : Path or str
        ``hydra.runtime.output_dir`` in the block; "run": ``hydra.run.dir``.

    Raises
    ------
    UserError
        If ``hydra.run.dir`` cannot be resolved.
    """
    current = HydraConfig.instance().cfg
    try:
        # a copy, since Hydra makes it read-only
        HydraConfig.instance().set_config(copy.deepcopy(config))
        if directory == "run":
            try:
                directory = str(config.hydra.run.dir)
            except OmegaConfBaseException as error:
                raise UserError(f"hydra.run.dir: cannot be resolved ({error}).") from error
        inside: Any = HydraConfig.instance().cfg
        with read_write(inside.hydra.runtime), open_dict(inside.hydra.runtime):
            inside.hydra.runtime.output_dir = os.path.abspath(directory)
        yield
    finally:
        HydraConfig.instance().cfg = current

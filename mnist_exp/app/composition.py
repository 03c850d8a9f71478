"""Compose configurations in Python, leaving the Hydra of the calling program as it was."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException
from hydra.version import VersionBase
from omegaconf import DictConfig

from mnist_exp.app.hydra_callback import composition_message
from mnist_exp.app.shipped_config import config_directory
from mnist_exp.errors import UserError
from mnist_exp.run.command_line import quoted

_ONE_AT_A_TIME = threading.Lock()  # Hydra's state is the process's


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Initialise Hydra with the package's options in a block; only one block runs at a time."""
    with _ONE_AT_A_TIME:
        outer, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(config_directory()), "mnist_exp", version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = outer
            VersionBase.instance().version_base = base


def composed(
    overrides: Sequence[str],
    config_dir: str | os.PathLike[str] | None = None,
    with_hydra: bool = False,
) -> DictConfig:
    """Compose the configuration of a command line, in a block of `own_hydra`.

    Parameters
    ----------
    overrides : sequence of str
        As on the command line: ``"model=cnn21k"``, ``"training.epochs=1"``.
    config_dir : path or None
        A directory with options of your own, as ``--config-dir``.
    with_hydra : bool
        Whether to keep Hydra's own part.

    Raises
    ------
    UserError
        With the text that the command line prints.
    """
    given = list(overrides)
    for override in given:
        if not isinstance(override, str):
            raise UserError(f"{override!r}: settings are texts, such as 'training.epochs=1'.")
    if config_dir is not None:
        path = Path(config_dir).absolute()
        if not path.is_dir():
            raise UserError(f"Additional config directory '{path}' not found")
        given.append(f"hydra.searchpath=[{quoted(f'file://{path}')}]")
    try:
        return compose("config", given, return_hydra_config=with_hydra)
    except CompactHydraException as error:
        raise UserError(composition_message(error)) from error

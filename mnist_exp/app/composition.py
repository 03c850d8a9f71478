"""Compose configurations in Python, leaving the Hydra of the calling program as it was."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.composition_message import composition_message
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import quoted

_ONE_AT_A_TIME = threading.Lock()  # Hydra's state is the process's


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Initialise Hydra with the package's options in a block; only one block runs at a time."""
    with _ONE_AT_A_TIME, _other_hydra():
        yield


@contextlib.contextmanager
def _other_hydra() -> Iterator[None]:
    """Initialise Hydra with the package's options in a block, and restore it as it was."""
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
    except Exception as error:  # whatever Hydra and OmegaConf make of a user's mistake
        directories = [Path(config_dir)] if config_dir is not None else []
        raise UserError(explained(error, overrides, directories)) from error


def explained(error: Exception, overrides: Sequence[str], directories: Sequence[Path] = ()) -> str:
    """Return why Hydra cannot compose the configuration of ``overrides``, and what was meant.

    ``directories`` are those with options of the user's own.
    """

    def values(chosen: list[str]) -> dict[str, Any]:
        paths = ",".join(quoted(f"file://{path.absolute()}") for path in directories)
        with _other_hydra():
            config = compose("config", [*chosen, f"hydra.searchpath=[{paths}]"])
        plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
        return plain

    return composition_message(error, overrides, values, directories)


def user_directories(config: DictConfig) -> list[Path]:
    """Return the config directories of the user's own, as Hydra's part of ``config`` has them."""
    sources = OmegaConf.select(config, "hydra.runtime.config_sources") or []
    paths = [Path(source.path) for source in sources if source.schema == "file" and source.path]
    return [path for path in paths if path != config_directory()]

"""Whether a configuration asks for a sweep by ``hydra.mode``, mostly without composing it."""

from __future__ import annotations

from collections.abc import Iterable

from hydra._internal.hydra import Hydra
from hydra.types import RunMode

from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.saved_config import key_of

_composed_mode = Hydra.get_mode
OF_HYDRA = ("hydra", "hydra.mode", "hydra.searchpath")
SHIPPED = {"pkg://hydra.conf", "structured://", str(config_directory())}


def may_set_a_mode(overrides: Iterable[str]) -> bool:
    """Return whether overrides may set ``hydra.mode``: of the shipped options, presets alone do."""
    keys = [key_of(text) for text in overrides]
    return any(key in OF_HYDRA or key.startswith(("hydra/", "experiment")) for key in keys)


def launch_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Return ``hydra.mode``, or None if nothing sets it; replaces ``Hydra.get_mode``.

    Hydra composes the whole configuration to read it, and composes again to run: a fifth of a
    second at every start. Here it does so only if a preset, Hydra's own settings or files of the
    user's may set a mode.
    """
    places = {place.path for place in hydra.config_loader.get_search_path().get_path()}
    if config_name == "config" and places <= SHIPPED and not may_set_a_mode(overrides):
        return None
    mode: RunMode | None = _composed_mode(hydra, config_name, overrides)
    return mode

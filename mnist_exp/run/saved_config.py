"""The configuration a run was started with, and what may differ when it goes on."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.run.files import write_atomic
from mnist_exp.run.yaml_files import load_yaml
from mnist_exp.schema import LENGTH_ARGUMENTS

# Keys that say which run is meant, and nothing about how it trains.
RUN_KEYS = ("resume", "reproduce", "sweep")
EPOCHS = "training.epochs"
SHOWN = 8  # differences in a message


def as_typed(overrides: Any) -> list[str]:
    """Return a list of overrides that Hydra keeps as it was typed, interpolations unresolved."""
    typed: list[str] = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    return typed


def training_config(config: DictConfig) -> dict[str, Any]:
    """Return everything that decides how a run trains, resolved, as plain values."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return {key: value for key, value in values.items() if key not in RUN_KEYS}


def hash_config(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def config_file(directory: Path) -> Path:
    """Return where Hydra saves the configuration of a run."""
    return directory / ".hydra" / "config.yaml"


def load_config(directory: Path, key: str) -> DictConfig:
    """Read the configuration of the run that ``key=directory`` asks for.

    Raises
    ------
    UserError
        If there is no such run, or its configuration is missing or damaged.
    """
    path = config_file(directory)
    if not directory.is_dir():
        raise UserError(f"{key}={directory}: there is no such directory.")
    if not path.is_file():
        raise UserError(
            f"{key}={directory}: is no run directory, or {path.relative_to(directory)} was "
            "deleted, without which nobody knows how the run was configured. Give the directory "
            "that holds results.json and .hydra."
        )
    try:
        config = load_yaml(path)
    except UserError as error:
        raise UserError(f"{key}={directory}: {error}") from error
    except OSError as error:
        raise UserError(f"{key}={directory}: {path} cannot be read ({error}).") from error
    if not isinstance(config, DictConfig) or "training" not in config:
        raise UserError(f"{key}={directory}: {path} is damaged; it holds no configuration.")
    return config


def save_config(directory: Path, config: DictConfig) -> None:
    """Replace the saved configuration of a run."""
    write_atomic(config_file(directory), OmegaConf.to_yaml(config).encode())


def resume_command(directory: Path, kind: str = "run") -> str:
    """Return the command that goes on with a run or a sweep."""
    key = "resume" if kind == "run" else "sweep.resume"
    return f"python -m mnist_exp {shlex.quote(f'{key}={directory}')}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both values; None stands for no such key."""
    one, other = _flat(before), _flat(after)
    keys = sorted(one.keys() | other.keys())
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def check_extends(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str], run: str
) -> None:
    """Check that of some keys only the number of epochs differs, and is larger.

    Parameters
    ----------
    before, after : dict
        Two resolved configurations of the run called ``run``.
    names : iterable of str
        The dotted keys to check.

    Raises
    ------
    UserError
        Naming every key that differs, or why the epochs cannot be extended.
    """
    found = differences(before, after)
    changed = {name: found[name] for name in sorted(names) if name in found}
    was, now = changed.get(EPOCHS, (0, 0))
    if was < now:
        del changed[EPOCHS]
        scheduler = after["scheduler"]
        derived = [key for key in LENGTH_ARGUMENTS if scheduler.get(key, "") is None]
        if derived:
            raise UserError(
                f"{EPOCHS}={now}: {run} cannot be extended from {was} epochs, because "
                f"scheduler.{derived[0]} follows the number of epochs: those already trained had "
                f"the learning rates of a schedule that ends after {was}. Start a new run."
            )
    if changed:
        sentences = [f"{key} was {b} and is {a} now" for key, (b, a) in changed.items()]
        listed = "; ".join(sentences[:SHOWN]) + (
            f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
        )
        raise UserError(
            f"{run} was started with other settings: {listed}. Only {EPOCHS} may be raised "
            "when a run goes on; start a new run for anything else."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

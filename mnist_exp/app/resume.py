"""Resume an existing run, or run it again, with its own settings."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.app.foreign_targets import judge_targets, own_targets
from mnist_exp.app.run_directories import hold
from mnist_exp.errors import UserError
from mnist_exp.run.command_line import command, literal, override, resume_command, shell_word
from mnist_exp.run.config_differences import EPOCHS, PLACES, check_extends, differences
from mnist_exp.run.formats import check_complete
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import (
    as_typed,
    key_of,
    load_config,
    run_directory,
    save_config,
    training_config,
    writable,
)
from mnist_exp.run.yaml_files import load_overrides, load_yaml


def resume(config: DictConfig) -> None:
    """Replace ``config`` with that of the run to resume, in that run's directory.

    Raises
    ------
    UserError
        If there is no such run, it never began to train, another process works on it, its
        configuration has untrusted targets, the command line gives another directory, or a
        setting other than more epochs and the place of the data changes.
    """
    directory = _named_run(config, "resume")
    elsewhere = [o for o in as_typed(config.hydra.overrides.hydra) if key_of(o) == "hydra.run.dir"]
    if elsewhere:
        raise UserError(
            f"{elsewhere[-1]}: resume={directory} goes on in that run's own directory. Leave "
            f"hydra.run.dir out, or run it again in another one: "
            f"{command(override('reproduce', directory), elsewhere[-1])}"
        )
    _read_run(config, directory, "resume")  # refuse before a lock file is made there
    if not (directory / RESULTS).exists() and not (directory / "checkpoints").exists():
        raise UserError(
            f"resume={directory}: that run was stopped before it began to train, so there is "
            "nothing to go on from. Start it again."
        )
    hold(config, directory)
    saved = _read_run(config, directory, "resume")
    changes = asked_changes(config, saved, directory, "resume")
    if changes:
        for key, value in changes.items():
            OmegaConf.update(saved, key, value)
        save_config(directory, saved)
    take_over(config, saved)
    with writable(config):
        config.hydra.run.dir = literal(str(directory))
        config.hydra.output_subdir = None  # keep .hydra unchanged


def use_reference(config: DictConfig) -> None:
    """Replace ``config`` with that of the finished run to reproduce, in a new directory.

    Raises
    ------
    UserError
        If there is no such run, it is not finished, its configuration has untrusted targets, or
        the command line changes a setting other than the place of the data.
    """
    directory = _named_run(config, "reproduce")
    saved = _read_run(config, directory, "reproduce")
    results = read_results(directory)
    if results is None or results["status"] != COMPLETED:
        status = "without results" if results is None else results["status"]
        raise UserError(
            f"reproduce={directory}: that run is {status}, so there is nothing to compare with. "
            f"Finish it first: {resume_command(directory)}"
        )
    check_complete(results, directory / RESULTS)
    changes = asked_changes(config, saved, directory, "reproduce")
    if EPOCHS in changes:
        raise UserError(f"reproduce={directory}: runs with that run's own training.epochs.")
    for key, value in changes.items():
        OmegaConf.update(saved, key, value)
    saved.reproduce = literal(str(directory.absolute()))
    take_over(config, saved)


def _named_run(config: DictConfig, key: str) -> Path:
    """Return the run directory that ``key`` names."""
    name = str(config[key])
    if not name:
        raise UserError(f"{key}=: names no run. Give the run's directory: {key}=RUN_DIR.")
    return run_directory(Path(name))


def _read_run(config: DictConfig, directory: Path, key: str) -> DictConfig:
    """Return the configuration of the run in ``directory`` after checking its targets."""
    saved = load_config(directory, key)
    if config.get("trust") is not True:
        own, where = own_targets(config.hydra), f"{key}={directory}"
        try:
            judge_targets(saved, where, own)
        except UserError as error:
            raise UserError(f"{error}{_started_with(directory)}") from error
    return saved


def _started_with(directory: Path) -> str:
    """Return the sentence to give the ``--config-dir`` that a run was started with, if any."""
    with contextlib.suppress(OSError, UserError, OmegaConfBaseException, KeyError, TypeError):
        saved: Any = OmegaConf.to_container(load_yaml(directory / ".hydra" / "hydra.yaml"))
        for source in saved["hydra"]["runtime"]["config_sources"]:
            if "command-line" in source["provider"]:
                option = shell_word(f"--config-dir={source['path']}")
                return f" The run was started with {option}: give it again."
    return ""


def asked_changes(
    config: DictConfig, saved: DictConfig, directory: Path, key: str
) -> dict[str, Any]:
    """Return the changes the command line makes to a saved configuration: epochs and `PLACES`.

    Raises
    ------
    UserError
        If it changes anything else.
    """
    overrides = [
        override
        for override in as_typed(config.hydra.overrides.task)
        if key_of(override) not in (key, "trust")
    ]
    names = [key_of(override) for override in overrides]
    changes = {place: OmegaConf.select(config, place) for place in PLACES if place in names}
    for place in changes:
        if OmegaConf.select(saved, place) is None:
            source = saved.data.get("_target_") if place == "data.root" else None
            reason = f"whose data comes from {source}" if source else "which started from none"
            raise UserError(
                f"{key}={directory}: {place} is not a setting of that run, {reason}. Leave it out."
            )
    others = [
        override for override, name in zip(overrides, names, strict=True) if name not in PLACES
    ]
    if others:
        changes |= _asked_epochs(saved, others, directory, key)
    return changes


def _asked_epochs(
    saved: DictConfig, overrides: list[str], directory: Path, key: str
) -> dict[str, Any]:
    path = directory / ".hydra" / "overrides.yaml"
    earlier = load_overrides(path) if path.is_file() else []
    earlier.append(f"{EPOCHS}={saved.training.epochs}")  # may have been extended since
    try:
        base, asked = (
            training_config(compose("config", last_of_each_key(given)))
            for given in (earlier, earlier + overrides)
        )
    except HydraException as error:
        raise UserError(
            f"{key}={directory}: {' '.join(overrides)} does not go together with the settings of "
            f"that run, {' '.join(earlier)} ({error}). Only {EPOCHS} may be raised."
            f"{_started_with(directory)}"
        ) from error
    before = training_config(saved)
    # count only changes by the command line, not later changes in conf/
    names = differences(base, asked).keys() & differences(before, asked).keys()
    check_extends(before, asked, names, f"{key}={directory}")
    return {EPOCHS: asked["training"]["epochs"]} if names else {}


def last_of_each_key(overrides: list[str]) -> list[str]:
    """Keep the last override of each key; Hydra refuses a group given twice."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def take_over(config: DictConfig, saved: DictConfig) -> None:
    """Replace everything in ``config`` except ``hydra`` and ``trust`` with ``saved``."""
    with writable(config):
        for key in [str(key) for key in config if key not in ("hydra", "trust")]:
            del config[key]
        saved.pop("trust", None)
        config.merge_with(saved)

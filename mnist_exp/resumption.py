"""Runs that exist already: resumed as they were started, or run again."""

from __future__ import annotations

from pathlib import Path

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_exp.claim import hold
from mnist_exp.errors import UserError
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import (
    as_typed,
    check_extends,
    differences,
    load_config,
    resume_command,
    save_config,
    training_config,
)


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
    overrides = [o for o in as_typed(config.hydra.overrides.task) if not o.startswith(f"{key}=")]
    if not overrides:
        return None
    path = directory / ".hydra" / "overrides.yaml"
    earlier = as_typed(OmegaConf.load(path)) if path.is_file() else []
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

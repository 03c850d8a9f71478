"""Runs and sweeps that exist already: resumed as they were started, or run again."""

from __future__ import annotations

import json
from pathlib import Path

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_exp.claim import hold, use_directory
from mnist_exp.errors import UserError
from mnist_exp.run.files import write_json
from mnist_exp.run.formats import check_complete
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
from mnist_exp.run.yaml_files import load_overrides

SWEEP_FILE = "sweep.json"  # how the sweep was started


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
    check_complete(results, directory / RESULTS)
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
    earlier = load_overrides(path) if path.is_file() else []
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


def save_sweep(config: DictConfig, directory: Path) -> None:
    """Write down what `resume_sweep` needs; Hydra's own multirun.yaml is not written safely."""
    swept = {
        "overrides": as_typed(config.hydra.overrides.task),
        "hydra_overrides": [
            override
            for override in as_typed(config.hydra.overrides.hydra)
            if not override.startswith(("hydra.sweep.dir=", "hydra.mode="))
        ],
        # what a preset sweeps stands in none of the overrides
        "params": OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create()),
    }
    write_json(directory / SWEEP_FILE, swept)


def resume_sweep(config: DictConfig) -> None:
    """Turn ``config`` into that of the sweep to resume; jobs that have begun keep their files.

    Raises
    ------
    UserError
        If there is no such sweep, another process works on it, or a setting is given.
    """
    directory = Path(config.sweep.resume)
    others = [o for o in as_typed(config.hydra.overrides.task) if not o.startswith("sweep.resume=")]
    if others:
        raise UserError(
            f"{' '.join(others)}: sweep.resume runs the rest of a sweep as it was started; give "
            "no other settings."
        )
    try:
        saved = json.loads((directory / SWEEP_FILE).read_text())
        overrides, more, params = (saved[k] for k in ("overrides", "hydra_overrides", "params"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"sweep.resume={directory}: is no sweep, {SWEEP_FILE} cannot be read ({error}). Give "
            "the directory that holds the jobs' directories."
        ) from error
    hold(directory)
    with read_write(config), open_dict(config):
        config.hydra.overrides.task = overrides
        config.hydra.overrides.hydra.extend(more)
        config.hydra.sweeper.params = params
    use_directory(config, "sweep", directory)
    OmegaConf.register_new_resolver("hydra_files", hydra_files, replace=True)
    job = "${hydra.sweep.dir}/${hydra.sweep.subdir}"
    config.hydra.overrides.hydra.append(f"hydra.output_subdir='${{hydra_files:{job}}}'")


def hydra_files(directory: str) -> str | None:
    """Return where Hydra saves a job's configuration; None if the job has begun and has it."""
    return None if (Path(directory) / RESULTS).exists() else ".hydra"

"""Train from Python with the settings of a command line (``mnist_exp.run_experiment``)."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.composition import composed, own_hydra
from mnist_exp.app.hydra_callback import check_job
from mnist_exp.app.hydra_values import hydra_values
from mnist_exp.app.run_directories import Claim, claim_directory, use_directory
from mnist_exp.app.runs import Run
from mnist_exp.errors import UserError
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.run.command_line import command, literal
from mnist_exp.run.saved_config import (
    as_typed,
    key_of,
    make_paths_absolute,
    own_part,
    with_values,
    writable,
)

OF_THE_COMMAND_LINE = ("resume", "reproduce", "sweep.resume")
RUN_DIR = "hydra.run.dir"


def run_experiment(
    *overrides: str,
    directory: str | os.PathLike[str] | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> Run:
    """Train as ``python -m mnist_exp`` does with these overrides, and return the run.

    The run directory is that of the command line, which can resume it. Torch's threads, random
    generators and deterministic mode are restored, and so is Hydra, if it was initialised. Folds
    train one after the other unless ``cv.n_jobs`` asks for more.

    Parameters
    ----------
    *overrides : str
        As on the command line: ``"model=cnn21k"``, ``"training.epochs=1"``.
    directory : path or None
        A new or empty directory for the run; None: ``outputs/DATE/TIME-MODEL``, with a number
        appended if that is taken.
    config_dir : path or None
        A directory with options of your own, as ``--config-dir``.

    Returns
    -------
    Run
        As from `mnist_exp.load_run`; classes of your own are trusted.

    Raises
    ------
    UserError
        With the text that the command line prints. Nothing is left behind, unless the training
        had begun.
    KeyboardInterrupt, Interrupted
        If the training was stopped by Ctrl-C or another stop signal, which only the main thread
        handles. A checkpoint is written first; the text has the command to go on with.
    """
    for override in overrides:
        if isinstance(override, str) and key_of(override) in OF_THE_COMMAND_LINE:
            raise UserError(f"{override}: belongs to the command line: {command(override)}")
    with own_hydra():
        config = composed([*overrides, "hydra.mode=RUN"], config_dir, with_hydra=True)
        wanted = Path(config.hydra.run.dir if directory is None else directory)
    with hydra_values(config, wanted):
        check_job(config)
    named = RUN_DIR in map(key_of, as_typed(config.hydra.overrides.hydra))
    held = claim_directory(
        wanted,
        "run",
        named or directory is not None,
        config.hydra.output_subdir,
        key=RUN_DIR if directory is None else "directory",
    )
    held.config = config
    try:
        use_directory(config, "run", held.wanted)
        _write_hydra_files(config, held.directory)
        with hydra_values(config, held.directory):
            values = with_values(own_part(config))
        _train(values, overrides, held)
    except BaseException as error:
        outcome = (
            " before it began to train"
            if held.give_back()
            else f"; continue with: {held.command_to_go_on()}"
        )
        if isinstance(error, Interrupted | KeyboardInterrupt):
            _raise_stopped(error, outcome)
        raise
    finally:
        held.release()
    return Run(held.wanted, trust=True)


def _train(config: DictConfig, overrides: Sequence[str], held: Claim) -> None:
    from mnist_exp.experiment.ignored_settings import keys_of
    from mnist_exp.experiment.run import run_experiment as train
    from mnist_exp.train.torch_settings import torch_settings_restored

    make_paths_absolute(config, Path.cwd())
    with torch_settings_restored(), StopSignals() as signals:
        train(config, held.directory, signals, held.lock, said=keys_of([*overrides]))


def _write_hydra_files(config: DictConfig, directory: Path) -> None:
    """Write the configuration and the overrides as Hydra does before it runs a job."""
    if config.hydra.output_subdir is None:
        return
    with writable(config):
        config.hydra.runtime.output_dir = literal(str(directory))
    place = directory / config.hydra.output_subdir
    place.mkdir()
    OmegaConf.save(own_part(config), place / "config.yaml")
    OmegaConf.save(OmegaConf.masked_copy(config, ["hydra"]), place / "hydra.yaml")
    OmegaConf.save(config.hydra.overrides.task, place / "overrides.yaml")


def _raise_stopped(stop: Interrupted | KeyboardInterrupt, outcome: str) -> None:
    """Raise ``stop`` with what became of the run in its text; Ctrl-C as KeyboardInterrupt."""
    name = str(stop) if isinstance(stop, Interrupted) else signal.Signals.SIGINT.name
    text = f"stopped by {name}{outcome}"
    if name == signal.Signals.SIGINT.name:
        raise KeyboardInterrupt(text) from stop
    stop.args = (text,)
    raise stop

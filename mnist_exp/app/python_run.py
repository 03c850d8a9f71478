"""Train from Python with the settings of a command line (``mnist_exp.run_experiment``)."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.hydra_callback import check_job, composition_message
from mnist_exp.app.run_directories import Claim, claim_directory
from mnist_exp.app.runs import Run
from mnist_exp.app.shipped_config import config_directory
from mnist_exp.errors import UserError
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.run.saved_config import key_of, make_paths_absolute, own_part

HYDRA_FILES = ".hydra"
# Keys of the command line that name another run; there are functions and arguments for these.
INSTEAD = {
    "resume": "resume a run by command line",
    "reproduce": "repeat a run by command line",
    "sweep.resume": "resume a sweep by command line",
}
_COMPOSING = threading.Lock()  # Hydra's state is global


def run_experiment(
    *overrides: str,
    directory: str | os.PathLike[str] | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> Run:
    """Train once and return the run, as ``python -m mnist_exp`` with these overrides does.

    Folds train one after the other unless ``cv.n_jobs`` asks for more. Stop signals end the
    training after its batch, as `mnist_exp.interruption.Interrupted`; outside the main thread no
    signal is handled.

    Parameters
    ----------
    *overrides : str
        As on the command line: ``"model=cnn21k"``, ``"training.epochs=1"``.
    directory : path or None
        A new or empty directory for the run; None: ``outputs/DATE/TIME-MODEL``, with a number
        appended if that is taken.
    config_dir : path or None
        A directory with options of your own, as ``--config-dir``.

    Raises
    ------
    UserError
        If a setting is wrong, with the text the command line prints. Nothing is left behind then.
    """
    with _COMPOSING:
        config = composed_settings(overrides, config_dir)
    check_job(config)
    make_paths_absolute(config, Path.cwd())
    if directory is None:
        now = time.strftime(f"%Y-%m-%d{os.sep}%H-%M-%S")
        wanted = Path("outputs", f"{now}-{config.model.name}")
    else:
        wanted = Path(directory)
    held = claim_directory(wanted, "run", directory is not None, HYDRA_FILES, key="directory")
    try:
        train(config, overrides, held)
    except (UserError, Interrupted, KeyboardInterrupt):
        held.give_back()
        raise
    finally:
        if held.lock is not None:
            held.lock.release()
    return Run(held.wanted, trust=True)  # its settings are the caller's own


def train(config: DictConfig, overrides: tuple[str, ...], held: Claim) -> None:
    """Write the files Hydra writes, then train in a directory that is held."""
    from mnist_exp.experiment import run as experiment
    from mnist_exp.experiment.ignored_settings import keys_of

    files = held.directory / HYDRA_FILES
    files.mkdir()
    OmegaConf.save(config, files / "config.yaml")
    OmegaConf.save(OmegaConf.create([*overrides]), files / "overrides.yaml")
    signals = StopSignals()
    in_main_thread = threading.current_thread() is threading.main_thread()
    with signals if in_main_thread else contextlib.nullcontext():
        said = keys_of([*overrides])
        experiment.run_experiment(config, held.directory, signals, held.lock, said=said)


def composed_settings(
    overrides: tuple[str, ...], config_dir: str | os.PathLike[str] | None = None
) -> DictConfig:
    """Compose the configuration of a command line; Hydra's global state stays as it was.

    Raises
    ------
    UserError
        If Hydra cannot compose it, or a key belongs to the command line alone.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise UserError(f"{override!r}: give each setting as a text, such as 'seed=1'.")
        if key_of(override) in INSTEAD:
            raise UserError(f"{override}: {INSTEAD[key_of(override)]}: python -m mnist_exp ...")
        if key_of(override).split(".")[0].split("/")[0] == "hydra":
            raise UserError(f"{override}: hydra.* are settings of the command line; leave it out.")
    try:
        with hydra_restored(), initialize_config_dir(str(config_directory()), version_base="1.3"):
            place = [] if config_dir is None else [searched(Path(config_dir))]
            config = compose("config", [*place, *overrides])
    except CompactHydraException as error:
        raise UserError(composition_message(error)) from error
    return own_part(config)


def searched(config_dir: Path) -> str:
    """Return the override that adds a directory to Hydra's search path."""
    if not config_dir.is_dir():
        raise UserError(f"config_dir={config_dir}: there is no such directory.")
    quoted = str(config_dir.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


@contextlib.contextmanager
def hydra_restored() -> Iterator[None]:
    """Let a block use Hydra's compose API, also where Hydra is initialised already."""
    before = copy.copy(Singleton.get_state())
    hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(before)
        GlobalHydra.instance().hydra = hydra

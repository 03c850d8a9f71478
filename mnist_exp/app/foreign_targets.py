"""Restrict what an untrusted run's configuration may call to known kinds of parts."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.saved_config import own_part

TARGET = "_target_"
TARGET_IN_YAML = re.compile(r"_target_:\s*[\"']?([\w.]+)")
# Packages that must define the class itself, since torch.nn.functional.torch.os.system and
# mnist_exp.files.atomic.os.remove resolve too.
HOMES = (
    *("torch.nn.", "torch.optim.", "sklearn.model_selection."),
    *("mnist_exp.models.", "mnist_exp.device."),
)


def judge_targets(
    config: DictConfig,
    where: str,
    own: set[str],
    groups: Collection[str] | None = None,
    trusting: str = "trust=true",
) -> None:
    """Check every target of a configuration read from a directory, without calling any.

    Allowed are classes of layers, optimizers, schedulers, splitters, step models, update schemes
    and readings that torch, scikit-learn and this package define, and the targets in ``own``.

    Parameters
    ----------
    config : DictConfig
        The configuration.
    where : str
        Prefix of the message, for instance ``resume=DIR``.
    own : set of str
        Targets named by options on the caller's own config path; see `targets_of_options`.
    groups : collection of str or None
        The groups of the configuration to check; None: all.
    trusting : str
        What the message says to add where the directory is trusted.

    Raises
    ------
    UserError
        Naming every target that is not allowed.
    """
    foreign = foreign_targets(config, own, groups)
    if foreign:
        raise UserError(
            f"{where}: its configuration calls targets that no option of this package or of your "
            f"--config-dir names: {', '.join(foreign)}. A run directory from elsewhere can run "
            "any program that way. If the directory is yours, or you know what these do, add "
            f"{trusting}."
        )


def foreign_targets(
    config: DictConfig, own: set[str], groups: Collection[str] | None = None
) -> list[str]:
    """Return ``KEY=TARGET`` of every target that is neither in ``own`` nor of a known kind."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    found = targets_in({k: v for k, v in values.items() if groups is None or k in groups}, "")
    return [
        f"{key}={target}"
        for key, target in found
        if target not in own and not is_known_part(target)
    ]


def words_to_allow(config: DictConfig) -> list[str]:
    """Return what a command must add so that this run's own targets may be called again.

    Parameters
    ----------
    config : DictConfig
        With Hydra's part.
    """
    own = own_part(config)
    if not foreign_targets(own, targets_of_options([config_directory()])):
        return []
    if foreign_targets(own, own_targets(config.hydra)):
        return ["trust=true"]
    sources = config.hydra.runtime.config_sources
    path = next(source.path for source in sources if "command-line" in source.provider)
    return [f"--config-dir={path}"]


def targets_in(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every ``_target_`` that is not null."""
    if isinstance(value, dict):
        for name, item in value.items():
            dotted = f"{key}.{name}" if key else str(name)
            if name == TARGET and item is not None:
                yield dotted, item
            else:
                yield from targets_in(item, dotted)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from targets_in(item, f"{key}[{index}]")


def own_targets(hydra: Any) -> set[str]:
    """Return the targets named by options of this package and the caller's config path."""
    sources = [source.path for source in hydra.runtime.config_sources if source.path]
    return targets_of_options([path for path in map(Path, sources) if path.is_dir()])


def targets_of_options(directories: list[Path]) -> set[str]:
    """Return the targets named in YAML files below config directories."""
    files = (path for directory in directories for path in directory.rglob("*.yaml"))
    lines = (TARGET_IN_YAML.findall(path.read_text(errors="replace")) for path in files)
    return {target for found in lines for target in found} - {"null"}


def is_known_part(target: Any) -> bool:
    """Whether ``target`` is a class of `HOMES` of a kind that a run is made of."""
    if not (isinstance(target, str) and target.startswith(HOMES)):
        return False  # importing a module of another package would run its code
    found = _resolve(target)
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(HOMES):
        return False
    from torch import nn, optim  # heavy

    from mnist_exp.device import Reading, StepModel, UpdateScheme
    from mnist_exp.device.programmed import Drift, ProgrammingError

    of_torch = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    of_devices = (StepModel, UpdateScheme, Reading, Drift, ProgrammingError)
    return issubclass(found, (*of_torch, *of_devices)) or hasattr(found, "get_n_splits")


def _resolve(path: str) -> Any:
    """Return the object at a dotted path, or None."""
    first, *others = path.split(".")
    found: Any = importlib.import_module(first)
    name = first
    for part in others:
        name = f"{name}.{part}"
        if not hasattr(found, part) and inspect.ismodule(found):
            try:
                importlib.import_module(name)
            except ImportError:
                return None
        found = getattr(found, part, None)
    return found

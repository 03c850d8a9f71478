"""What the configuration of somebody else's run may call: parts of known kinds, nothing else."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError

TARGET = "_target_"
TARGET_IN_YAML = re.compile(r"_target_:\s*[\"']?([\w.]+)")
# Where a class must be defined, whatever path names it: torch.nn.functional.torch.os.system and
# mnist_exp.files.atomic.os.remove resolve too.
HOMES = ("torch.nn.", "torch.optim.", "sklearn.model_selection.", "mnist_exp.models.")


def judge_targets(config: DictConfig, where: str, own: set[str]) -> None:
    """Check everything that a configuration read from a directory would call.

    Nothing is called. Allowed are classes of layers, optimizers, schedulers and splitters that
    torch, scikit-learn and this package define, and the targets in ``own``.

    Parameters
    ----------
    config : DictConfig
        The configuration.
    where : str
        What stands before the message, for instance ``resume=DIR``.
    own : set of str
        Targets that options of the caller's own config path name; see `targets_of_options`.

    Raises
    ------
    UserError
        Naming every other target.
    """
    found = targets_in(OmegaConf.to_container(config, resolve=True), "")
    foreign = [
        f"{key}={target}"
        for key, target in found
        if target not in own and not is_known_part(target)
    ]
    if foreign:
        raise UserError(
            f"{where}: its configuration calls what no option of this package or of your "
            f"--config-dir names: {', '.join(foreign)}. A run directory from somebody else can run "
            "any program that way. If the directory is yours, or you know what these do, add "
            "trust=true."
        )


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
    """Return the targets that options of this package and of the caller's config path name."""
    sources = [source.path for source in hydra.runtime.config_sources if source.path]
    return targets_of_options([path for path in map(Path, sources) if path.is_dir()])


def targets_of_options(directories: list[Path]) -> set[str]:
    """Return the targets that the YAML files below config directories name."""
    files = (path for directory in directories for path in directory.rglob("*.yaml"))
    lines = (
        re.findall(r"_target_:\s*[\"']?([\w.]+)", path.read_text(errors="replace"))
        for path in files
    )
    return {target for found in lines for target in found} - {"null"}


def is_known_part(target: Any) -> bool:
    """Whether ``target`` is the path of a layer, optimizer, scheduler or splitter of `HOMES`."""
    if not (isinstance(target, str) and target.startswith(HOMES)):
        return False  # no module of another package is imported, since that runs its code
    found = _resolve(target)
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(HOMES):
        return False
    from torch import nn, optim  # heavy

    kinds = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    return issubclass(found, kinds) or hasattr(found, "get_n_splits")


def _resolve(path: str) -> Any:
    """Return what a dotted path names, None if nothing."""
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

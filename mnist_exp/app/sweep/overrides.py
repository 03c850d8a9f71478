"""Restrict what an untrusted sweep.json may set without ``trust=true``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from mnist_exp.app.sweep.grid import OF_THE_SWEEP
from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import RUN_KEYS
from mnist_exp.run.sweep_record import SWEEP_FILE, AskedJob, SweepRecord

PLACES = ("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir")
CHECKED = (*PLACES, *OF_THE_SWEEP, "sweep.objective", "sweep.direction")  # once resolved
ENGINES = ("hydra/launcher", "hydra/sweeper")
ENGINE_SETTINGS = ("hydra.launcher.", "hydra.sweeper.")
PARAMS = "hydra.sweeper.params."
# Launcher and sweeper settings that may be words. Others can hold shell commands (submitit's
# setup), programs to start or addresses to connect to.
WORDS = {
    "partition", "qos", "account", "constraint", "gres", "name", "comment",
    "backend", "prefer", "batch_size", "study_name", "direction", "sampler", "pruner",
}  # fmt: skip
OPTION = re.compile(r"[A-Za-z_]\w*([-.]\w+)*", re.ASCII)


def check_trusted(sweep_dir: Path, record: SweepRecord) -> None:
    """Check that a sweep.json sets nothing but training and its own jobs.

    The ``_target_``s of the jobs' configurations are checked after composition.

    Raises
    ------
    UserError
        Naming everything that needs ``trust=true``.
    """
    texts = [*record.overrides, *record.hydra_overrides]
    texts += [f"{key}={value}" for key, value in record.params.items()]
    texts += [override for job in record.jobs or () for override in job.overrides]
    refused = list(dict.fromkeys(text for text in texts if not is_plain(text)))
    for name in ("launcher", "sweeper"):
        value = getattr(record, name)
        if value is not None and not _is_option(value):
            refused.append(f"{name} {value}")
    if _leads_away(record.config_name):
        refused.append(f"config_name {record.config_name}")
    for name in ("config_dir", "config_path"):
        value = getattr(record, name)
        if value is not None and not _is_own_directory(value, sweep_dir):
            refused.append(f"{name} {value}")
    if refused:
        listed = "; ".join(text[:100] for text in refused[:8])
        raise UserError(
            f"{sweep_dir / SWEEP_FILE}: needs trust=true for {listed}. These can run code or write "
            "outside the sweep's directory: give trust=true only if you know who wrote that file."
        )


def check_links(sweep_dir: Path, jobs: list[AskedJob]) -> None:
    """Check that a sweep holds no links; Hydra would follow them out of its directory.

    Raises
    ------
    UserError
        Naming the first link.
    """
    paths = [*sweep_dir.iterdir()]
    for job in jobs:
        directory = sweep_dir / job.directory
        paths += [path for path in (directory, *directory.parents) if sweep_dir in path.parents]
        paths += [*directory.glob("*"), *directory.glob("*/*.yaml")]
    for path in paths:
        if path.is_symlink():
            raise UserError(
                f"{path}: needs trust=true, since files would be written where this link leads."
            )


def is_plain(text: str) -> bool:
    """Whether an override only sets a value, or selects an option on the config path."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    key = override.key_or_group
    if "_target_" in text or override.package is not None:
        return False
    if key.startswith(PARAMS):
        return is_plain(f"{key.removeprefix(PARAMS)}={text.partition('=')[2]}")
    return all(_is_plain_value(key, value) for value in [*_parts(override)] or [None])


def _is_plain_value(key: str, value: Any) -> bool:
    if key in CHECKED:
        return True
    if key in ENGINES:
        return _is_option(value)
    if key.startswith(ENGINE_SETTINGS):
        word = key.rpartition(".")[2] in WORDS and _is_option(value)
        return word or value is None or isinstance(value, (int, float))
    if key.partition("/")[0].partition(".")[0] in ("hydra", *RUN_KEYS):
        return False
    # a key without a dot may be a group, whose option must not lie outside the config path
    return "." in key or not _leads_away(value)


def _is_option(value: Any) -> bool:
    return isinstance(value, str) and OPTION.fullmatch(value) is not None


def _parts(override: Override) -> Iterator[Any]:
    """Yield an override's values, including those inside lists, dicts and sweeps."""
    waiting: list[Any] = [override.value()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ChoiceSweep):
            waiting += value.list
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        else:
            yield value.text if hasattr(value, "text") else value


def _leads_away(value: Any) -> bool:
    return isinstance(value, str) and (
        ".." in value or "${" in value or "\\" in value or value.startswith(("/", "~"))
    )


def _is_own_directory(text: str, sweep_dir: Path) -> bool:
    """Whether a configuration directory is an absolute path outside the sweep's directory."""
    path = Path(text)
    return path.is_absolute() and not path.resolve().is_relative_to(sweep_dir.resolve())

"""The settings of a run, read fast for lists of a thousand: plain YAML, no Hydra, no OmegaConf."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.regular import read_regular
from mnist_exp.run.config_differences import flat
from mnist_exp.run.formats import check_format
from mnist_exp.run.saved_config import (
    AFTERWARDS,
    CONFIG_FILE,
    RUN_KEYS,
    config_file,
    key_of,
    values_by_key,
    without_old_behaviour,
)
from mnist_exp.run.yaml_files import LARGEST, load_overrides, load_plain, parse_plain

# Keys and sections that change what a run writes and how long it takes, not its results.
NO_EFFECT = (*RUN_KEYS, "plots", "checkpoints", "verbose", "tracker", "cv.n_jobs", *AFTERWARDS)
# The options chosen, as Hydra saves them in hydra.yaml, of which the rest takes longer to parse.
CHOICES = re.compile(rb"^    choices:\n((?:      .*\n?)+)", re.MULTILINE)


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run.

    Attributes
    ----------
    config : dict
        The configuration, nested, as plain values; empty if unknown.
    chosen : dict of str
        Option of each group, as chosen by the command line and the options it names.
    overrides : sequence of str
        As typed.
    problem : str
        Why the settings cannot be read; empty if they can.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    problem: str = ""

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """Each setting by dotted key, and the option of each group by the group's name."""
        given = values_by_key(self.overrides)
        return {**given, **flat(self.config), **self.options}

    @functools.cached_property
    def options(self) -> dict[str, str]:
        """The option of each group; where none is known, the name of a network or a class."""
        options = {group: _own_name(part) for group, part in self.config.items()}
        options |= {
            group: option for group, option in self.chosen.items()
            if not option.startswith("_")  # a recipe, which users do not choose
        }  # fmt: skip
        return {group: option for group, option in options.items() if option}

    @functools.cached_property
    def given(self) -> list[str]:
        """Keys and groups that the user set."""
        return [
            name for name in map(key_of, self.overrides) if name.partition(".")[0] not in RUN_KEYS
        ]

    @functools.cached_property
    def effective(self) -> dict[str, str]:
        """What results depend on, as text by dotted key; equal across versions for equal runs."""
        return {
            key: as_text(value) for key, value in flat(without_old_behaviour(self.config)).items()
            if key not in NO_EFFECT and key.partition(".")[0] not in NO_EFFECT
        }  # fmt: skip


def read_settings(directory: Path) -> RunSettings:
    """Read the settings of the run in ``directory``; what cannot be read is left out."""
    path = directory / CONFIG_FILE
    problem = ""
    config: Any = {}
    try:
        config = load_plain(path if path.is_file() else config_file(directory))
        check_format(config, {}, path)
    except FileNotFoundError:
        problem = f"{path}: is missing"
    except (UserError, OSError) as error:
        config, problem = {}, str(error)
    config = {str(key): part for key, part in config.items() if key != "hydra"}
    return RunSettings(config, read_choices(directory), _overrides(directory), problem)


def as_text(value: Any) -> str:
    """Return a value as it is written in YAML and on the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_text, value))}]"
    return str(value)


def _overrides(directory: Path) -> list[str]:
    try:
        return load_overrides(directory / ".hydra" / "overrides.yaml")
    except (UserError, OSError):
        return []


def read_choices(directory: Path) -> dict[str, str]:
    """Return the option of each group that Hydra saved; none if it cannot be read."""
    path = directory / ".hydra" / "hydra.yaml"
    try:
        found = CHOICES.search(read_regular(path, LARGEST))
        choices = parse_plain(found[1], path) if found else {}
    except (UserError, OSError):
        return {}
    return {
        str(group): as_text(option) for group, option in choices.items()
        if option is not None and not str(group).startswith("hydra/")
    }  # fmt: skip


def _own_name(part: Any) -> str:
    """Return the name that a part gives itself, or its class's; "none" if it is null."""
    if not isinstance(part, Mapping) or "_target_" not in part:
        return ""
    target = part["_target_"]
    return "none" if target is None else str(part.get("name") or str(target).rpartition(".")[2])

"""Read YAML that somebody else may have written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.errors import UserError
from mnist_exp.files.regular import DEEPEST, read_regular
from mnist_exp.run.formats import STRING, ListOf, check_format

LARGEST = 1 << 18  # bytes; a configuration has some 3,000


def load_yaml(path: Path) -> Any:
    """Read a YAML file as OmegaConf does, if it is small and every value stands in it once.

    An alias repeats a value: ten lines of ten aliases each make ten billion values.

    Raises
    ------
    UserError
        If the file is damaged, too large, no regular file, or has aliases.
    OSError
        If it is missing or cannot be read.
    """
    content = read_regular(path, LARGEST)
    try:
        text = content.decode()
        _check_events(text)
        return OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from error
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error


def load_overrides(path: Path) -> list[str]:
    """Read a list of overrides as they were typed, as Hydra saves it.

    Raises
    ------
    UserError, OSError
        As `load_yaml`, and if it is no such list.
    """
    typed = load_yaml(path)
    overrides: Any = OmegaConf.to_container(typed, resolve=False)
    check_format(overrides, ListOf(STRING), path)
    return list(overrides)


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"has an alias, *{event.anchor}; write its value out.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UserError(f"is damaged: more than {DEEPEST} lists or maps inside each other.")

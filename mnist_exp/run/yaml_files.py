"""Read untrusted YAML files, and write configurations."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import OmegaConfDumper
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.errors import UserError
from mnist_exp.files.regular import DEEPEST, read_regular
from mnist_exp.run.formats import STRING, ListOf, check_format

LARGEST = 1 << 18  # bytes; a configuration takes about 3,000
# libyaml's is ten times faster; PyYAML built from source may lack it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """Writes what OmegaConf does, in a sixth of the time where PyYAML has its C part."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)


def dump_yaml(values: Any) -> str:
    """Return plain values as YAML that OmegaConf reads back as they are."""
    text: str = yaml.dump(
        values, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=_Dumper
    )
    return text


def load_yaml(path: Path) -> Any:
    """Read a YAML file with OmegaConf, rejecting large files and aliases.

    Aliases repeat values: ten lines of ten aliases each expand to ten billion values.

    Raises
    ------
    UserError
        If the file is damaged, too large, not a regular file, or has aliases.
    OSError
        If the file is missing or cannot be read.
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


def load_plain(path: Path) -> Any:
    """Read a YAML file that OmegaConf saved as plain values, in a millisecond or two.

    Interpolations stay text. Aliases are refused, as in `load_yaml`.

    Raises
    ------
    UserError, OSError
        As `load_yaml`.
    """
    return parse_plain(read_regular(path, LARGEST), path)


def parse_plain(content: bytes, path: Path) -> Any:
    """Parse ``content``, a part of ``path``, as `load_plain` does."""
    try:
        text = content.decode()
        _check_events(text, LOADER)
        return yaml.load(text, Loader=LOADER)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read, it is damaged ({error}).") from error


def load_overrides(path: Path) -> list[str]:
    """Read Hydra's saved list of overrides, as typed.

    Raises
    ------
    UserError, OSError
        As `load_yaml`, or if the content is not a list of strings.
    """
    overrides = load_plain(path)
    check_format(overrides, ListOf(STRING), path)
    return list(overrides)


def _check_events(text: str, loader: Any = yaml.SafeLoader) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"has an alias, *{event.anchor}; write its value out.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UserError(f"is damaged: more than {DEEPEST} lists or maps inside each other.")

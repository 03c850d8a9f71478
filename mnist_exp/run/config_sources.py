"""The flags that tell Hydra where a run's options lie, from what it saved of their places."""

from __future__ import annotations

import re
from pathlib import Path

from mnist_exp.errors import UserError
from mnist_exp.files.regular import read_regular
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.yaml_files import LARGEST, parse_plain

# Parts of hydra.yaml, of which the rest takes longer to parse.
SOURCES = re.compile(rb"^    config_sources:\n((?:    [- ] .*\n?)+)", re.MULTILINE)
NAME = re.compile(rb"^    config_name: (.*)$", re.MULTILINE)
DEFAULT_NAME = "config"


def config_flags(directory: Path) -> list[str] | None:
    """Return the flags, such as ``--config-dir=...``, that find the options of a run again.

    None if they cannot: a search path of another kind, a directory that is gone, or a damaged
    file. Runs that were not started by Hydra need no flags.
    """
    path = directory / ".hydra" / "hydra.yaml"
    try:
        content = read_regular(path, LARGEST)
    except FileNotFoundError:
        return []
    except (UserError, OSError):
        return None
    found, name = SOURCES.search(content), NAME.search(content)
    try:
        sources = parse_plain(found[1], path) if found else []
        named = parse_plain(name[1], path) if name else DEFAULT_NAME
        flags = [_flag(s["provider"], s["schema"], s["path"]) for s in sources]
    except (UserError, KeyError, TypeError):
        return None
    if named != DEFAULT_NAME:
        flags.append(f"--config-name={named}")
    return None if None in flags else [flag for flag in flags if flag]


def _flag(provider: str, schema: str, place: str) -> str | None:
    """Return the flag of a source, "" if it needs none, None if no flag brings it back."""
    if provider in ("hydra", "schema") or (schema == "pkg" and provider != "command-line"):
        return ""  # Hydra's own, and those of plugins
    if provider == "main" and _is_shipped(Path(place)):
        return ""
    flag = {"main": "--config-path", "command-line": "--config-dir"}.get(provider)
    return f"{flag}={place}" if flag and schema == "file" and Path(place).is_dir() else None


def _is_shipped(place: Path) -> bool:
    """Whether a directory is the package's own configuration, here or on another machine."""
    elsewhere = place.name == "conf" and (
        not place.exists() or any((base / "mnist_exp").is_dir() for base in place.parents[:2])
    )
    return elsewhere or place == config_directory()

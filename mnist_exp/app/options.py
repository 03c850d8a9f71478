"""The options of ``conf/`` as data: what each is for, its keys, their values and comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.files.shipped_config import config_directory

LINE = re.compile(r"( *)([\w.]+): *(.*?)(?:(?:^| +)# ?(.*))?")
MORE = re.compile(r" +# *(.*)")  # a comment goes on
GLOBAL = "# @package _global_"


@dataclass(frozen=True)
class Setting:
    """A key with its value: as it is, as written in the file, and what its comment says."""

    value: Any
    text: str
    comment: str


Settings = dict[str, Setting]


@dataclass(frozen=True)
class Option:
    """A file of a group: what it is for, and its settings by dotted key, also of other groups."""

    group: str
    name: str
    description: str
    settings: Settings

    def __str__(self) -> str:
        return f"{self.group}={self.name}"


def read_options(directories: Iterable[Path] = (), group: str = "*") -> list[Option]:
    """Read the options that users choose, of this package and of ``directories``.

    All options, or those of one group. Files that cannot be read are left out, as are recipes and
    common parts (``_name``).
    """
    roots = (config_directory(), *directories)
    return [option for root in roots for option in _options_in(root, group)]


def group_names(directories: Iterable[Path] = ()) -> list[str]:
    """Return the names of all groups, of this package and of ``directories``."""
    folders = (path for root in (config_directory(), *directories) for path in root.glob("*/"))
    return sorted({path.name for path in folders if any(path.glob("*.yaml"))})


def option_names(directories: Iterable[Path], group: str) -> list[str]:
    """Return the names of the options of a group, such as ``constraint/read``."""
    roots = (config_directory(), *directories)
    names = {path.stem for root in roots for path in root.glob(f"{group}/*.yaml")}
    return sorted(name for name in names if not name.startswith("_"))


def root_settings() -> Settings:
    """Return the settings of config.yaml, Hydra's left out."""
    found = _own_settings(config_directory() / "config.yaml", "")
    return {key: setting for key, setting in found.items() if not key.startswith("hydra.")}


def _options_in(root: Path, group: str) -> Iterator[Option]:
    for path in sorted(root.glob(f"{group}/*.yaml")):
        if path.name.startswith("_"):
            continue
        try:
            settings = _settings(root, path)
            text = path.read_text(encoding="utf-8")
        except Exception:  # a user's file; composing it says what is wrong
            continue
        head = [line for line in text.splitlines() if not line.startswith(GLOBAL)]
        lines = [line[1:].strip() for line in head[: _comments_first(head)]]
        yield Option(path.parent.name, path.stem, " ".join(lines), settings)


def _comments_first(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _settings(root: Path, path: Path, package: str | None = None) -> Settings:
    """Return the settings of an option's file and of those it starts from."""
    text = path.read_text(encoding="utf-8")
    if package is None:
        package = "" if GLOBAL in text else path.parent.relative_to(root).as_posix()
    settings: Settings = {}
    content = OmegaConf.load(path)
    defaults = content.get("defaults", []) if isinstance(content, DictConfig) else []
    for entry in defaults:
        if not isinstance(entry, str) or entry == "_self_":
            continue
        name, _, where = entry.partition("@")
        base = root / name[1:] if name.startswith("/") else path.parent / name
        place = {"": None, "_here_": package}.get(where, where)
        settings |= _settings(root, base.with_suffix(".yaml"), place)
    own = _own_settings(path, package)
    replaced = {key for key in settings if any(o.startswith(f"{key}.") for o in own)}
    settings = {key: setting for key, setting in settings.items() if key not in replaced}
    for key, setting in own.items():
        declared = settings.get(key, setting)  # where it is declared, its comment says what it is
        settings[key] = replace(setting, comment=declared.comment or setting.comment)
    return settings


def _own_settings(path: Path, package: str) -> Settings:
    content = OmegaConf.load(path)
    values: Any = OmegaConf.to_container(content)
    if not isinstance(values, dict):
        return {}
    values.pop("defaults", None)
    written = _written(path.read_text(encoding="utf-8"))
    prefix = f"{package}." if package else ""
    return {
        f"{prefix}{key}": Setting(value, *written.get(key, (str(value), "")))
        for key, value in _leaves(values, written)
    }


def _leaves(
    values: dict[str, Any], written: dict[str, tuple[str, str]], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield each dotted key and value; below the first level, a group in braces is one value."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        in_braces = prefix and written.get(key, ("", ""))[0].startswith("{")
        if isinstance(value, dict) and value and not in_braces:
            yield from _leaves(value, written, f"{key}.")
        else:
            yield key, value


def _written(text: str) -> dict[str, tuple[str, str]]:
    """Return the value as written and the comment of each dotted key of a YAML file."""
    found: dict[str, tuple[str, str]] = {}
    inside: list[tuple[int, str]] = []
    key = ""
    for line in text.splitlines():
        if (more := MORE.fullmatch(line)) is not None and key:
            value, comment = found[key]
            found[key] = value, f"{comment} {more[1]}"
        elif (match := LINE.fullmatch(line)) is not None:
            indent = len(match[1])
            inside = [*((depth, name) for depth, name in inside if depth < indent)]
            inside.append((indent, match[2]))
            key = ".".join(name for _, name in inside)
            found[key] = match[3], match[4] or ""
        else:
            key = ""
    return found

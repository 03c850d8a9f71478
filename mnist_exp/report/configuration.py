"""The configuration of a run as a tree, with marks on what was set for this run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.names import is_plain_name
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.config_differences import flat
from mnist_exp.run.run_settings import RunSettings, as_text
from mnist_exp.run.saved_config import RUN_KEYS
from mnist_exp.run.yaml_files import load_plain

TYPED, RECIPE = "typed", "recipe"
Node = dict[str, Any]


def config_tree(settings: RunSettings) -> list[Node]:
    """Return the configuration's nodes: ``name``, and ``children`` or ``value``; ``key``, ``mark``.

    The mark is `TYPED` on what the command line set, keys or the option of a group; `RECIPE` where
    an option that was chosen (a model's recipe, an experiment) set another value than config.yaml
    or the group's own option has; else it is empty. ``default`` is that other value.
    """
    given = set(settings.given)
    defaults = shipped_values(settings)
    return [
        _node(name, name, value, given, defaults, settings.chosen)
        for name, value in settings.config.items()
        if name not in RUN_KEYS
    ]


def shipped_values(settings: RunSettings) -> dict[str, Any]:
    """Return the values in the package's config.yaml and its options chosen, by dotted key."""
    root = _shipped("config")
    groups = _default_options(root.pop("defaults", None))
    values = flat(root)
    for group, option in settings.chosen.items():
        if "@" not in group:
            part = _with_bases(group, option)
            part = part.get(group, {}) if set(part) & set(root) else part  # a recipe is global
            values |= {f"{group}.{key}": value for key, value in flat(part).items()}
    return values | groups


def _node(
    key: str,
    name: str,
    value: Any,
    given: set[str],
    defaults: Mapping[str, Any],
    chosen: Mapping[str, str],
) -> Node:
    if isinstance(value, Mapping) and value:
        option = chosen.get(key, "") if "." not in key else ""
        mark = TYPED if key in given else ""
        if not mark and option and option != defaults.get(key, option):
            mark = RECIPE
        children = [
            _node(f"{key}.{inner}", str(inner), part, given, defaults, chosen)
            for inner, part in value.items()
        ]
        marked = sum(child["marked"] for child in children) + bool(mark)
        recipe = option.removeprefix("_recipe_")
        shown = option if recipe == option else f"recipe of {recipe}"
        return {
            "key": key, "name": name, "option": shown, "mark": mark, "children": children,
            "marked": marked,
        }  # fmt: skip
    default = defaults.get(key, value) if "." in key or not isinstance(value, Mapping) else value
    mark = TYPED if key in given else RECIPE if _differs(value, default) else ""
    shown = as_text(default) if mark and _differs(value, default) else ""
    return {
        "key": key, "name": name, "value": as_text(value), "mark": mark, "default": shown,
        "marked": bool(mark),
    }  # fmt: skip


def _differs(value: Any, default: Any) -> bool:
    """Whether two values differ; what an interpolation resolves to is not known."""
    if isinstance(default, str):
        if "${" in default:
            return False
        if isinstance(value, float):  # YAML reads 1e-5, without a point, as text
            return as_text(value) != as_text(_number(default))
    return bool(value != default)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _with_bases(group: str, option: str) -> dict[str, Any]:
    """Return the values of an option over those of the options of its group that it extends."""
    part = _shipped(f"{group}/{option}")
    values: dict[str, Any] = {}
    for base in part.pop("defaults", None) or ():
        if isinstance(base, str) and base not in ("_self_", option):
            values |= _with_bases(group, base)
    return values | part


def _shipped(option: str) -> dict[str, Any]:
    path = config_directory() / f"{option}.yaml"
    if not all(map(is_plain_name, option.split("/"))):
        return {}
    try:
        found = load_plain(path)
    except (UserError, OSError):
        return {}
    return dict(found) if isinstance(found, Mapping) else {}


def _default_options(defaults: Any) -> dict[str, str]:
    entries = [entry for entry in defaults or () if isinstance(entry, Mapping)]
    return {
        str(group): as_text(option) for entry in entries for group, option in entry.items()
        if not str(group).startswith("override")
    }  # fmt: skip

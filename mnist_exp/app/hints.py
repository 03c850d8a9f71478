"""Hints on keys that do not exist: what was meant, and which options have them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mnist_exp.app.options import group_names, read_options
from mnist_exp.run.config_differences import flat

NAMED = 6  # most options in a message
OWN = "extra"  # where values of the user's own stand
PRESETS = ("experiment", "debug")  # groups whose options set keys of others


def hint(key: str, values: Mapping[str, Any], directories: Collection[Path] = ()) -> str:
    """Say what was meant by a key that the configuration does not have, and which options have it.

    Parameters
    ----------
    key : str
        The key, or a group.
    values : mapping
        The configuration it is missing from, as plain values.
    directories : collection of Path
        Config directories of the user's own.
    """
    if key.partition(".")[0] in PRESETS:
        return "the file of such an option needs '# @package _global_' as its first line"
    if key.partition(".")[0] == OWN:
        return f"add it, with a plus: +{key}=..."
    having = options_with(key, directories)
    names = [*flat(values), *values, *group_names(directories)]
    similar = _similar(key, {name for name in names if not f"{key}.".startswith(f"{name}.")})
    clauses = []
    if similar:
        clauses.append(f"did you mean {' or '.join(similar)}?")
    if having:
        clauses.append(f"it is a setting of {having}{_none_of(key, values)}")
    elif not similar:
        clauses.append(_where_keys_are(key, values))
    return " ".join([*clauses[:1], *(f"({clause})" for clause in clauses[1:])])


def options_with(key: str, directories: Collection[Path]) -> str:
    """Name the options of the key's group that have the key, such as ``cv=kfold``."""
    group = key.partition(".")[0]
    if group not in group_names(directories):
        return ""
    options = [option for option in read_options(directories, group) if key in option.settings]
    named = [str(option) for option in options[:NAMED]]
    if len(options) > NAMED:
        named.append(f"{len(options) - NAMED} more")
    return " or ".join(filter(None, [", ".join(named[:-1]), *named[-1:]]))


def _where_keys_are(key: str, values: Mapping[str, Any]) -> str:
    group, _, name = key.rpartition(".")
    beside = [_last(known) for known in flat(values) if known.rpartition(".")[0] == group]
    beside = [known for known in beside if known not in ("_target_", name)]
    if "." in group and beside:  # of a part within a part, which `settings` does not describe
        return f"{group} has {', '.join(beside)}"
    known = f" {group}" if group in values else ""
    return (
        f"python -m mnist_exp settings{known} lists the keys, and your own values go under {OWN}: "
        f"+{OWN}.{name}=..."
    )


def _none_of(key: str, values: Mapping[str, Any]) -> str:
    group = key.partition(".")[0]
    part = values.get(group)
    without = isinstance(part, Mapping) and part.get("_target_", "") is None
    return f"; {group}=none has none" if without else ""


def _similar(key: str, names: Collection[str]) -> list[str]:
    """Return the keys that were probably meant: at most three, best first."""
    group, _, name = key.rpartition(".")
    words = name.split("_")
    short = "".join(word[:1] for word in words) if len(words) > 1 else name  # learning_rate: lr
    by_last = sorted(names, key=lambda known: (known.count("."), known))
    siblings = [known for known in by_last if group and known.rpartition(".")[0] == group]
    for among in filter(None, (siblings, by_last)):
        starting = [known for known in among if _last(known).startswith(f"{name}_")]
        same = [known for known in among if _last(known) in (name, short)]
        if found := same or starting:
            return found[:3]
        by_name = {_last(known): known for known in reversed(among)}
        if close := difflib.get_close_matches(name, by_name, n=1, cutoff=0.7):
            return [by_name[close[0]]]
    if siblings:  # whole paths would be alike by their groups alone
        return []
    return difflib.get_close_matches(key, names, n=1, cutoff=0.7)


def _last(key: str) -> str:
    return key.rpartition(".")[2]

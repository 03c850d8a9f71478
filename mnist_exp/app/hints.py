"""Messages about keys and options that do not exist: what was meant, and what has them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from mnist_exp.app.null_part import about_null_part
from mnist_exp.app.options import read_options
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import quoted, shell_word
from mnist_exp.run.config_differences import flat
from mnist_exp.schema import RULES

NAMED = 6  # most options in a message
OWN = "extra"  # where values of the user's own stand
# Options of hydra/launcher, and the package that brings each; 1.4 would bring another Hydra.
ENGINES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
}
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
    having = _options_with(key, directories)
    names = [*flat(values), *values, *_groups(directories)]
    similar = _similar(key, {name for name in names if not f"{key}.".startswith(f"{name}.")})
    clauses = []
    if similar:
        clauses.append(f"did you mean {' or '.join(similar)}?")
    if having:
        clauses.append(f"it is a setting of {having}{_none_of(key, values)}")
    elif not similar:
        group = key.partition(".")[0]
        known = f" {group}" if group != key and group in values else ""
        clauses.append(
            f"python -m mnist_exp settings{known} lists the keys, and your own values go under "
            f"{OWN}: +{OWN}.{_last(key)}=..."
        )
    return " ".join([*clauses[:1], *(f"({clause})" for clause in clauses[1:])])


def composition_message(
    error: Exception,
    overrides: Sequence[str],
    compose: Callable[[list[str]], Mapping[str, Any]],
    directories: Collection[Path] = (),
) -> str:
    """Return why Hydra cannot compose a configuration, and what was meant.

    Parameters
    ----------
    error : Exception
        What Hydra raised.
    overrides : sequence of str
        Those of the command line.
    compose : callable
        Returns the values of the configuration of these overrides.
    directories : collection of Path
        Config directories of the user's own.
    """
    message = str(error).partition("Config search path:")[0].strip()
    parsed = [*_parsed(overrides)]
    if (told := _about_option(message, directories)) is not None:
        return told
    unknown = re.search(r"Could not override '(.+?)'", message)
    groups = _groups(directories)
    if unknown is not None:
        key = unknown[1]
        values = _values_of_choices(parsed, compose, directories)
        about = (
            _about_inner_group(key)
            or _about_swept_options(key, parsed, compose, directories)
            or about_null_part(
                key, _given(key, overrides), values, _options_with(key, directories), directories
            )
        )
        meant = hint(key, values, directories)
        return about or f"{key}: there is no such key in this configuration; {meant}"
    if "override_grammar" in message and (unread := [*_not_read(overrides)]):
        return _quote_it(unread[0])
    deleted = re.search(r"Could not delete '(.+?)'", message)
    if deleted is not None:
        return (
            f"~{deleted[1]}: there is nothing to take away; leave it out, or choose an option: "
            "python -m mnist_exp --help lists them."
        )
    no_text = [o for o in parsed if o.key_or_group in groups and not _names_options(o)]
    if no_text:
        return _no_option(no_text[0], directories)
    if not isinstance(error, HydraException):
        typed = [str(o.input_line) for o in parsed if o.key_or_group in ("", *groups)]
        where = f" Check {', '.join(typed)} and the YAML files." if typed else ""
        message = (
            f"the configuration cannot be composed ({type(error).__name__}): {message}.{where}"
        )
    return message


def _given(key: str, overrides: Sequence[str]) -> str:
    texts = (text.partition("=")[::2] for text in overrides)
    return next((value for name, value in texts if name == key), "...")


def _not_read(overrides: Sequence[str]) -> Iterator[str]:
    for text in overrides:
        try:
            OverridesParser.create().parse_override(text)
        except HydraException:
            yield text


def _quote_it(override: str) -> str:
    """Say how a setting that Hydra's grammar does not take is written."""
    key, _, value = override.partition("=")
    items = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else None
    written = quoted(value) if items is None else f"[{','.join(map(quoted, items))}]"
    meant = f", such as {shell_word(f'{key}={written}')}" if value and key.isprintable() else ""
    return (
        f"{override}: cannot be read; a setting is KEY=VALUE, and text with spaces, letters other "
        f"than a to z or any of = , ( ) [ ] {{ }} needs quotes{meant}"
    )


def _about_option(message: str, directories: Collection[Path]) -> str | None:
    """Return the message about an option that does not exist, if that is what Hydra says."""
    missing = re.search(r"Could not find '(.+)/(.+?)'", message)
    in_list = re.search(r"Could not load '(.+)/(.+?)'", message)
    launcher = re.search(r"Could not (?:find|load) 'hydra/launcher/(\w+)'", message)
    if launcher is not None and launcher[1] in ENGINES:
        return (
            f"hydra/launcher={launcher[1]}: its package is not installed. Run "
            f"`pip install '{ENGINES[launcher[1]]}<1.4'` first."
        )
    if missing is not None and "Available options" in message:
        lines = message.partition("Available options")[2].splitlines()[1:]
        return _no_such_option(missing[1], missing[2], [line.strip() for line in lines])
    if in_list is not None:  # for an item of a list of options, Hydra names no others
        return _no_such_option(in_list[1], in_list[2], _option_names(in_list[1], directories))
    return None


def _about_inner_group(key: str) -> str | None:
    """Return the message about a group that only some options of another group have."""
    if not (config_directory() / key).is_dir():
        return None
    return (
        f"{key}: goes with an option of {key.partition('/')[0]} that has it, such as "
        f"constraint=memristor {key}=...; none is chosen here."
    )


def _about_swept_options(
    key: str,
    parsed: Sequence[Override],
    compose: Callable[[list[str]], Mapping[str, Any]],
    directories: Collection[Path],
) -> str | None:
    """Return the message about a key that some of the options bring that a sweep chooses from."""
    of_key = key.partition(".")[0]
    groups = _groups(directories)
    swept = [o for o in parsed if o.key_or_group in groups and isinstance(o.value(), ChoiceSweep)]
    for override in sorted(swept, key=lambda o: o.key_or_group != of_key):
        group, options = override.key_or_group, [*override.sweep_string_iterator()]
        there = {option.name for option in read_options(directories, group)}
        if not there.issuperset(options):
            continue  # the job says which options there are
        having = [
            option
            for option in options
            if key in flat(_values_of_choices(parsed, compose, directories, f"{group}={option}"))
        ]
        if len(having) == len(options):
            return (
                f"{key}: Hydra first composes without {override.input_line}, and finds no such "
                f"key; as all of these have it, write ++{key}=..."
            )
        if having:
            lacking = next(option for option in options if option not in having)
            return (
                f"{key}: {group}={lacking}, which this sweep includes, has no such key; sweep "
                f"{group}={','.join(having)} on its own, with ++{key}=..."
            )
    return None


def _options_with(key: str, directories: Collection[Path]) -> str:
    """Name the options of the key's group that have the key, such as ``cv=kfold``."""
    group = key.partition(".")[0]
    if group not in _groups(directories):
        return ""
    options = [option for option in read_options(directories, group) if key in option.settings]
    named = [str(option) for option in options[:NAMED]]
    if len(options) > NAMED:
        named.append(f"{len(options) - NAMED} more")
    return " or ".join(filter(None, [", ".join(named[:-1]), *named[-1:]]))


def _none_of(key: str, values: Mapping[str, Any]) -> str:
    group = key.partition(".")[0]
    part = values.get(group)
    without = isinstance(part, Mapping) and part.get("_target_", "") is None
    return f"; {group}=none has none" if without else ""


def _similar(key: str, names: Collection[str]) -> list[str]:
    """Return the keys that were probably meant: at most three, best first."""
    group, _, name = key.rpartition(".")
    by_last = sorted(names, key=lambda known: (known.count("."), known))
    siblings = [known for known in by_last if group and known.rpartition(".")[0] == group]
    for among in filter(None, (siblings, by_last)):
        starting = [known for known in among if _last(known).startswith(f"{name}_")]
        same = [known for known in among if _last(known) == name]
        if found := same or starting:
            return found[:3]
        by_name = {_last(known): known for known in reversed(among)}
        if close := difflib.get_close_matches(name, by_name, n=1, cutoff=0.7):
            return [by_name[close[0]]]
    return difflib.get_close_matches(key, names, n=1, cutoff=0.7)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _groups(directories: Collection[Path]) -> list[str]:
    folders = (path for root in (config_directory(), *directories) for path in root.glob("*/"))
    return sorted({path.name for path in folders if any(path.glob("*.yaml"))})


def _option_names(group: str, directories: Collection[Path]) -> list[str]:
    files = (f for root in (config_directory(), *directories) for f in root.glob(f"{group}/*.yaml"))
    return sorted({file.stem for file in files})


def _no_such_option(group: str, name: str, found: list[str]) -> str:
    options = [option for option in found if not option.startswith("_")]
    close = difflib.get_close_matches(name, options, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{group}={name}: there is no such option; allowed is {', '.join(options)}.{meant}"


def _no_option(override: Override, directories: Collection[Path]) -> str:
    group = override.key_or_group
    options = [name for name in _option_names(group, directories) if not name.startswith("_")]
    none = f" For none, leave {group} out." if group in PRESETS else ""
    return f"{override.input_line}: allowed is an option, {' or '.join(options)}.{none}"


def _names_options(override: Override) -> bool:
    """Whether an override's value is the name of an option, a list of names, or a sweep of them."""
    value: Any = override.value()
    items = value.list if isinstance(value, ChoiceSweep) else [value]
    lists = [item if isinstance(item, list) else [item] for item in items]
    return override.is_delete() or all(
        hasattr(name, "text") or isinstance(name, str) for names in lists for name in names
    )


def _parsed(overrides: Sequence[str]) -> Iterator[Override]:
    for text in overrides:
        try:
            yield OverridesParser.create().parse_override(text)
        except HydraException:  # Hydra says what is wrong
            continue


def _values_of_choices(
    parsed: Sequence[Override],
    compose: Callable[[list[str]], Mapping[str, Any]],
    directories: Collection[Path],
    *more: str,
) -> Mapping[str, Any]:
    """Return the values of the configuration with the options chosen and ``more``, no others."""
    groups = _groups(directories)
    chosen = [
        str(override.input_line)
        for override in parsed
        if override.key_or_group in groups and not override.is_sweep_override()
    ]
    for choices in ([*chosen, *more], []):
        try:
            return compose(choices)
        except Exception:  # another mistake, not the one to explain
            continue
    return dict.fromkeys(RULES)

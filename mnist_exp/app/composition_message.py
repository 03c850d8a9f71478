"""The message about a configuration that Hydra cannot compose: why, and what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from mnist_exp.app.hints import PRESETS, hint, options_with
from mnist_exp.app.null_part import about_argument, about_null_part
from mnist_exp.app.options import group_names, option_names, read_options
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import quoted, shell_word
from mnist_exp.run.config_differences import flat
from mnist_exp.schema import RULES

Compose = Callable[[list[str]], Mapping[str, Any]]  # values of the configuration of overrides
# Options of hydra/launcher, and the package that brings each; 1.4 would bring another Hydra.
ENGINES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
}


def composition_message(
    error: Exception,
    overrides: Sequence[str],
    compose: Compose,
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
    if (about := _about_option(message, directories)) is not None:
        return about
    if (unknown := re.search(r"Could not override '(.+?)'", message)) is not None:
        return _about_key(unknown[1], overrides, parsed, compose, directories)
    if (about := _about_value(error, overrides)) is not None:
        return about
    if (deleted := re.search(r"Could not delete '(.+?)'", message)) is not None:
        return (
            f"~{deleted[1]}: there is nothing to take away; leave it out, or choose an option: "
            "python -m mnist_exp --help lists them."
        )
    groups = group_names(directories)
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


def _about_value(error: Exception, overrides: Sequence[str]) -> str | None:
    """Return why Hydra does not take the value of an override; None if it takes all values."""
    message = str(error)
    if "override_grammar" in message and (unread := [*_not_read(overrides)]):
        return _quote_it(unread[0])
    if (swept := re.search(r"Sweeping over Hydra's .* '(.+)'", message, re.DOTALL)) is not None:
        key, _, value = swept[1].partition("=")
        of_text = "" if "/" in key else f", or quote a text: {shell_word(f'{key}={quoted(value)}')}"
        return f"{swept[1]}: all jobs of a sweep share Hydra's settings; give one{of_text}"
    if message.startswith("Error merging override ") and error.__cause__ is not None:
        return f"{message.split(maxsplit=3)[3]}: {str(error.__cause__).partition(chr(10))[0]}"
    return None


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


def _about_key(
    key: str,
    overrides: Sequence[str],
    parsed: Sequence[Override],
    compose: Compose,
    directories: Collection[Path],
) -> str:
    """Return the message about a key that the configuration does not have."""
    values = _values_of_choices(parsed, compose, directories)
    having, given = options_with(key, directories), _given(key, overrides)
    return (
        _about_inner_group(key)
        or _about_swept_options(key, parsed, compose, directories)
        or about_null_part(key, given, values, having, directories)
        or about_argument(key, given, values)
        or f"{key}: there is no such key in this configuration; {hint(key, values, directories)}"
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
        return _no_such_option(in_list[1], in_list[2], option_names(directories, in_list[1]))
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
    compose: Compose,
    directories: Collection[Path],
) -> str | None:
    """Return the message about a key that some of the options bring that a sweep chooses from."""
    of_key = key.partition(".")[0]
    groups = group_names(directories)
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


def _no_such_option(group: str, name: str, found: list[str]) -> str:
    options = [option for option in found if not option.startswith("_")]
    close = difflib.get_close_matches(name, options, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{group}={name}: there is no such option; allowed is {', '.join(options)}.{meant}"


def _no_option(override: Override, directories: Collection[Path]) -> str:
    group = override.key_or_group
    options = option_names(directories, group)
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
    compose: Compose,
    directories: Collection[Path],
    *more: str,
) -> Mapping[str, Any]:
    """Return the values of the configuration with the options chosen and ``more``, no others."""
    groups = group_names(directories)
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

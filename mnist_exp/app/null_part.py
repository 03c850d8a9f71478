"""Messages about keys that a part does not have yet, such as ``constraint.read.output_bits``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_exp.app.options import option_names, read_options
from mnist_exp.run.command_line import shell_word
from mnist_exp.run.config_differences import flat
from mnist_exp.schema.keys import select, target_of
from mnist_exp.schema.parts import PARTS

EXAMPLE = re.compile(r"\{_target_: ([\w.]+)\}")  # of a part, in the comment on its key


def about_null_part(
    key: str,
    value: str,
    values: Mapping[str, Any],
    having: str,
    directories: Collection[Path] = (),
) -> str | None:
    """Say how to set a part that is null, together with its key; None if no such part is known.

    Parameters
    ----------
    key, value : str
        As given.
    values : mapping
        The configuration, as plain values.
    having : str
        The options of the key's group that have the key, in words.
    directories : collection of Path
        Config directories of the user's own.
    """
    known = flat(values)
    part = next((p for p in _parents(key) if p in known and known[p] is None), None)
    if part is None:
        return None
    begin = f"{key}: {part} is null here and has no keys; "
    group = part.replace(".", "/")
    if options := option_names(directories, group):
        choices = " or ".join(f"{group}={option}" for option in options)
        return f"{begin}choose {choices} as well, such as {group}={options[0]} {key}={value}"
    if having:
        return f"{begin}it is a setting of {having}"
    target = _example(part, directories)
    if target is None:
        return None
    whole = f"{part}={{_target_: {target}, {key.removeprefix(f'{part}.')}: {value}}}"
    return f"{begin}set it as a whole, such as {shell_word(whole)}"


def about_argument(key: str, value: str, values: Mapping[str, Any]) -> str | None:
    """Say how to set an argument of a part's class that its option leaves out; None if it is none.

    Parameters as in `about_null_part`.
    """
    part, _, name = key.rpartition(".")
    settings = select(values, part)
    target = target_of(settings) if isinstance(settings, Mapping) else ""
    if name not in PARTS.get(target, {}):
        return None
    return (
        f"{key}: {target} has it, and its default holds here; to set it, write a plus before it: "
        f"+{key}={value}"
    )


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _example(part: str, directories: Collection[Path]) -> str | None:
    """Return the class that the comment on a part names."""
    options = read_options(directories, part.partition(".")[0])
    comments = (option.settings[part].comment for option in options if part in option.settings)
    return next((found[1] for text in comments if (found := EXAMPLE.search(text))), None)

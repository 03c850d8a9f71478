"""Commands as they are printed: quoted for Hydra's grammar and for the shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

PROGRAM = "python -m mnist_exp"
# Values that Hydra's grammar takes as text without quotes: paths of plain characters, and words.
PATH = re.compile(r"[A-Za-z0-9_.-]*/[A-Za-z0-9_./-]*")
WORD = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_.-]*", re.IGNORECASE)


def override(key: str, text: str | os.PathLike[str]) -> str:
    """Return the override that sets ``key`` to exactly this text, for Hydra's parser."""
    # Windows takes slashes too, and they need no quotes
    text = text.as_posix() if isinstance(text, PurePath) else os.fspath(text)
    plain = PATH.fullmatch(text) or WORD.fullmatch(text)
    return f"{key}={text if plain else quoted(text)}"


def quoted(text: str | os.PathLike[str]) -> str:
    """Quote a text for Hydra's grammar; what looks like an interpolation stays text."""
    # backslashes count where a quote or the end follows
    inside = re.sub(r'(\\*)("|\Z)', r"\1\1\2", literal(os.fspath(text))).replace('"', r"\"")
    return f'"{inside}"'


def literal(text: str) -> str:
    """Escape what OmegaConf would take for an interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def command(*words: str) -> str:
    """Return ``python -m mnist_exp`` with these words, to paste into a shell."""
    return " ".join([PROGRAM, *map(shell_word, words)])


def shell_word(text: str) -> str:
    r"""Quote a word for the shell, on one line; unprintable bytes become escapes in ``$'...'``."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def resume_command(directory: Path, kind: str = "run", words: Sequence[str] = ()) -> str:
    """Return the command that resumes a run or a sweep, followed by further ``words``."""
    return command(override("resume" if kind == "run" else "sweep.resume", directory), *words)

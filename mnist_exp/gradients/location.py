"""Find a run's gradients: in the run directory, or in a folder of their own on another disk.

The folder and the run directory hold the same token. So a run writes only to the folder that it
made, even if its directory was copied or altered.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_json
from mnist_exp.files.names import LONGEST_NAME
from mnist_exp.files.regular import read_json
from mnist_exp.run.formats import STRING, check_format
from mnist_exp.schema import Rule

LOCATION = "location.json"  # in the run's gradients directory: path of the folder
OWNER = "owner.json"  # in the folder: path of the run's gradients directory
LARGEST = 1 << 16  # bytes, of either file
TOKEN = Rule(lambda value: isinstance(value, str) and len(value) == 32, "a text of 32 characters")


def check_root(root: str) -> Path:
    """Return the directory of ``gradients.root``.

    Raises
    ------
    UserError
        If it does not exist. It is not created: its disk may just not be mounted.
    """
    path = Path(root).expanduser()
    if not path.is_absolute() or not path.is_dir():
        raise UserError(
            f"gradients.root={root}: is not an existing directory. Give the absolute path of one, "
            "or null for the run directory."
        )
    return path


def own_directory(directory: Path, root: str | None) -> Path:
    """Return where the run writes the epochs of ``directory``; the same after each resume.

    Parameters
    ----------
    directory : Path
        Inside the run directory of this process.
    root : str or None
        Where to make a folder instead; ``directory`` then holds its path.

    Raises
    ------
    UserError
        If ``directory`` is a link, or names a folder that belongs to another directory.
    """
    if directory.is_symlink():
        raise UserError(f"{directory}: is a link, and a run writes to its own directories only.")
    if root is None:
        return directory
    if (directory / LOCATION).exists():
        folder = located(directory)
        first = Path(_read(folder / OWNER)["directory"])
        if first != directory.resolve() and (first / LOCATION).exists():
            raise UserError(
                f"{directory}: is a copy of {first}, to which the gradients in {folder} belong. "
                f"Remove {first} or start a new run."
            )
        return folder
    parent = directory.resolve().parent
    token = secrets.token_hex(16)
    run = f"{parent.parent.name}-{parent.name}".encode()[: LONGEST_NAME // 2]
    folder = check_root(root) / f"{run.decode(errors='ignore')}-{token[:8]}"
    folder.mkdir()
    write_json(folder / OWNER, {"directory": str(directory.resolve()), "token": token})
    write_json(directory / LOCATION, {"directory": str(folder.resolve()), "token": token})
    return folder


def located(directory: Path) -> Path:
    """Return the folder that ``directory`` names in location.json, else ``directory`` itself.

    Raises
    ------
    UserError
        If the folder cannot be read or belongs to another run.
    """
    if not (directory / LOCATION).exists():
        return directory
    here = _read(directory / LOCATION)
    folder = Path(here["directory"])
    try:
        there = _read(folder / OWNER)
    except OSError as error:
        raise UserError(
            f"{directory / LOCATION}: the gradients are in {folder}, which cannot be read "
            f"({error.strerror}). Is its disk connected?"
        ) from error
    if there["token"] != here["token"]:
        raise UserError(f"{directory / LOCATION}: names {folder}, which belongs to another run.")
    return folder


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, LARGEST)
    check_format(content, {"directory": STRING, "token": TOKEN}, path)
    return dict(content)

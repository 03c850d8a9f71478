"""Checkpoints with a built-in checksum, loaded without executing code."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_atomic
from mnist_exp.files.regular import check_nesting, read_regular
from mnist_exp.terminal import printable_lines

SCHEMA_VERSION = 1
# torch.save writes a zip archive. The checksum is the archive's comment, which readers skip: the
# file still loads with plain torch.load.
_PREFIX = b"sha256:"
_COMMENT_SIZE = len(_PREFIX) + 64
ZIP64 = 0xFFFFFFFF  # placeholder for an offset beyond 4 GiB, stored elsewhere
MOST_SETTINGS = 100_000  # upper limit on values in a configuration


class DamagedCheckpoint(UserError):
    """The file's content does not match its checksum."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values to ``path``, atomically and with a checksum."""
    buffer = io.BytesIO()
    torch.save({"schema_version": SCHEMA_VERSION, **content}, buffer)
    archive = buffer.getvalue()
    comment = _PREFIX + hashlib.sha256(archive).hexdigest().encode()
    write_atomic(path, archive[:-2] + struct.pack("<H", len(comment)) + comment)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, tensors only; nothing in the file is executed.

    Raises
    ------
    DamagedCheckpoint
        If the file is truncated, altered or not a checkpoint.
    UserError
        If the file cannot be read, contains other objects, or has another schema version.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    return unpack_checkpoint(content, path, device)


def has_checksum(content: bytes) -> bool:
    """Return whether a file was written by `save_checkpoint`, damaged or not."""
    return content[-_COMMENT_SIZE:].startswith(_PREFIX)


def unpack_checkpoint(
    content: bytes, path: Path, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return the content of the checkpoint file ``path``; errors as `load_checkpoint`."""
    comment = content[-_COMMENT_SIZE:]
    archive = content[: -_COMMENT_SIZE - 2] + b"\0\0"  # the archive as torch.save wrote it
    checksum = _PREFIX + hashlib.sha256(archive).hexdigest().encode()
    length = content[-_COMMENT_SIZE - 2 : -_COMMENT_SIZE]
    if comment != checksum or length != struct.pack("<H", _COMMENT_SIZE):
        raise DamagedCheckpoint(
            f"{path}: the content does not match its checksum; the file is damaged or was not "
            "written by mnist_exp."
        )
    saved = load_plain(archive, path, device)
    version = saved.get("schema_version") if isinstance(saved, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: has schema version {version}, this mnist_exp reads {SCHEMA_VERSION}. "
            "Use the version of mnist_exp that wrote it."
        )
    return saved


def load_plain(archive: bytes, path: Path, device: torch.device | str = "cpu") -> Any:
    """Return what torch.save wrote to the file ``path``, tensors and plain values only.

    Raises
    ------
    UserError
        If it holds other objects, or is no such file.
    """
    try:
        check_unpacked_size(archive)
        return torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except Exception as error:  # torch raises many types on malformed files
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: refused, only tensors and plain values are read, as torch.save writes them "
            f"({type(error).__name__}: {reason})."
        ) from error


def check_unpacked_size(archive: bytes) -> None:
    """Check that a zip archive is uncompressed, as torch.save writes it.

    A compressed archive of a few megabytes can unpack to more than fits in memory.

    Raises
    ------
    ValueError
        If members are compressed or overlap, or the central directory is not at the offset stored
        in the archive's end record, which other readers use.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        members, listed_at = content.infolist(), content.start_dir
    if any(
        m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members
    ):
        raise ValueError("members of the archive are compressed")
    if sum(member.file_size for member in members) > len(archive):
        raise ValueError("members of the archive share bytes")
    named = struct.unpack("<I", archive[-6:-2])[0]
    if named not in (listed_at, ZIP64):
        raise ValueError("the archive's list of members is not where its end says")


def epoch_checkpoint(directory: Path, epoch: int, partial: bool = False) -> Path:
    """Return the path of the checkpoint after ``epoch`` complete epochs; names sort by progress.

    Parameters
    ----------
    directory : Path
        Checkpoints of one training.
    epoch : int
        Complete epochs.
    partial : bool
        Whether it includes batches of the next epoch.
    """
    return directory / f"epoch_{epoch:05d}{'_partial' if partial else ''}.pt"


def load_newest(
    directory: Path, device: torch.device | str = "cpu"
) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest sound epoch checkpoint; rename damaged ones and report them on stderr.

    Returns
    -------
    tuple of Path and dict, or None
        The file and its content; None if no checkpoint is sound.
    """
    paths = sorted(directory.glob("epoch_*.pt"), key=lambda path: path.stem, reverse=True)
    for path in paths:
        try:
            content = load_checkpoint(path, device)
            check_nesting(content.get("config"), path, MOST_SETTINGS)
            return path, content
        except DamagedCheckpoint as error:
            instead = "the one before it is used" if path != paths[-1] else "no older one is left"
            told = printable_lines(f"{error} Set aside; {instead}.")
            print(f"warning: {told}", file=sys.stderr)
            path.replace(path.with_name(f"damaged_{path.name}"))
    return None


def remove_old_checkpoints(directory: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` epoch checkpoints, and partial ones of finished epochs."""
    complete = sorted(directory.glob("epoch_?????.pt"))
    old = complete[:-keep]
    inside = [p for p in directory.glob("epoch_*_partial.pt") if p.stem < complete[-1].stem]
    for path in (*old, *inside):
        path.unlink()

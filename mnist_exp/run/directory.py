"""The run directory: writing it while a run trains, and restoring from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import append_json_lines, json_line, remove_unfinished, write_atomic
from mnist_exp.files.regular import read_regular
from mnist_exp.run.checkpoints import load_newest, save_checkpoint
from mnist_exp.run.config_differences import check_extends, differences
from mnist_exp.run.formats import STEP, check_format, mistakes
from mnist_exp.run.saved_config import without_old_behaviour
from mnist_exp.run.saved_state import CHECKPOINT
from mnist_exp.train.state import Row

STEPS = "steps.jsonl"
Checkpoint = tuple[Path, dict[str, Any]]  # file and content


class RunDirectory:
    """Paths and files of one run.

    Parameters
    ----------
    path : Path
        The run directory, created if missing.
    config : dict
        The resolved configuration of the training.
    data_sha256 : str
        Checksum of the images and labels.
    split_sha256 : dict of str
        Checksum of each fold's indices; the only split has key None.
    weights_sha256 : str or None
        Checksum of the file of pretrained weights, if any.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        data_sha256: str,
        split_sha256: Mapping[int | None, str],
        weights_sha256: str | None = None,
    ) -> None:
        self.path = path
        self.config = config
        self.data_sha256 = data_sha256
        self.split_sha256 = split_sha256
        self.weights_sha256 = weights_sha256
        path.mkdir(parents=True, exist_ok=True)

    @property
    def splits_sha256(self) -> str:
        """Combined checksum of all folds' indices."""
        return splits_sha256(self.split_sha256)

    def checkpoints(self, fold: int | None) -> Path:
        """Return the checkpoint directory of a fold, or of the only split (None)."""
        directory = self.path / "checkpoints"
        return directory if fold is None else directory / f"fold_{fold}"

    def save(self, path: Path, fold: int | None, content: dict[str, Any]) -> None:
        """Write a checkpoint, with the configuration, data, split and fold it belongs to."""
        identity = {
            "config": self.config,
            "data_sha256": self.data_sha256,
            "split_sha256": self.split_sha256[fold],
            "fold": fold,
        }
        if self.weights_sha256 is not None:
            identity["weights_sha256"] = self.weights_sha256
        save_checkpoint(path, {**identity, **content})

    def newest(self, fold: int | None) -> dict[str, Any] | None:
        """Load the newest sound checkpoint of a fold, or return None without one.

        Raises
        ------
        UserError
            If the checkpoint's settings, data, split or fold differ.
        """
        found = _load_newest(self.checkpoints(fold), self.config)
        return None if found is None else self._own(found, fold)

    def _own(self, checkpoint: Checkpoint, fold: int | None) -> dict[str, Any]:
        """Return a checkpoint's content, after checking its data, fold and split."""
        path, saved = checkpoint
        data_sha256, saved_fold = saved["data_sha256"], saved["fold"]
        split_sha256 = saved.get("split_sha256")  # older versions did not store it
        if data_sha256 != self.data_sha256:
            raise UserError(
                f"{path}: was trained on other data (SHA-256 {data_sha256[:12]}..., now "
                f"{self.data_sha256[:12]}...). Put the files back as they were, or start anew."
            )
        if saved.get("weights_sha256") != self.weights_sha256:
            was, is_now = map(_named, (saved.get("weights_sha256"), self.weights_sha256))
            raise UserError(
                f"{path}: was trained from {was}, now from {is_now}. Put the file of "
                "model.weights back as it was, or start anew."
            )
        if saved_fold != fold:
            raise UserError(f"{path}: is of fold {saved_fold}, not {fold}.")
        now = self.split_sha256[fold]
        if split_sha256 not in (None, now):
            raise UserError(
                f"{path}: was trained on another split: the cv scheme draws other images now "
                f"(SHA-256 {now[:12]}..., was {split_sha256[:12]}...). Give the splitter a seed "
                "(cv.random_state) and start anew."
            )
        return saved

    def restore(self, checkpoints: Mapping[Path, Checkpoint]) -> dict[int | None, dict[str, Any]]:
        """Rewrite metrics.jsonl from the checkpoints, cut steps.jsonl, remove unfinished files.

        Parameters
        ----------
        checkpoints : dict
            Return value of `load_checkpoints`.

        Returns
        -------
        dict
            Content of each fold's checkpoint; folds without one are absent.

        Raises
        ------
        UserError
            If a checkpoint's data, split or fold differ.
        """
        rows: list[Row] = []
        saved = {}
        steps = []
        for fold in self.split_sha256:
            for directory in (self.path, self.checkpoints(fold)):
                remove_unfinished(directory)
            checkpoint = checkpoints.get(self.checkpoints(fold))
            if checkpoint is not None:
                saved[fold] = self._own(checkpoint, fold)
                rows += [_with_fold(row, fold) for row in saved[fold]["state"]["history"]]
                done = saved[fold].get("step", 0)
                steps += [row for row in read_steps(self.path, fold) if row["step"] <= done]
        for name, content in (("metrics.jsonl", rows), (STEPS, steps)):
            if content or (self.path / name).exists():
                write_atomic(self.path / name, b"".join(map(json_line, content)))
        return saved

    def append_steps(self, rows: Sequence[Row], fold: int | None) -> None:
        """Append rows to steps.jsonl."""
        if rows:
            append_json_lines(self.path / STEPS, [_with_fold(row, fold) for row in rows])

    def append_metrics(self, row: Row, fold: int | None) -> None:
        """Append an epoch's row to metrics.jsonl."""
        append_json_lines(self.path / "metrics.jsonl", [_with_fold(row, fold)])


def splits_sha256(split_sha256: Mapping[int | None, str]) -> str:
    """Return the combined checksum of the folds' indices, from that of each."""
    return hashlib.sha256("".join(split_sha256.values()).encode()).hexdigest()


def check_links(path: Path) -> None:
    """Check that a run directory contains no links to directories, which lead outside the run.

    Raises
    ------
    UserError
        Naming a link.
    """
    for parent, names, _ in os.walk(path):
        for link in (Path(parent, name) for name in names):
            if link.is_symlink():
                raise UserError(
                    f"{link}: is a link, and a run writes to its own directories only. Put the "
                    "directory itself in its place."
                )


def checkpoint_directories(path: Path) -> list[Path]:
    """Return the possible checkpoint directories: that of the only split, then the folds'."""
    checkpoints = path / "checkpoints"
    return [checkpoints, *sorted(checkpoints.glob("fold_*"))]


def load_checkpoints(path: Path, config: dict[str, Any]) -> dict[Path, Checkpoint]:
    """Load the newest sound checkpoint of each training in a run directory.

    Their settings are compared before any target in the configuration is called.

    Returns
    -------
    dict
        Checkpoints by directory.

    Raises
    ------
    UserError
        If a checkpoint has other settings.
    """
    found = {place: _load_newest(place, config) for place in checkpoint_directories(path)}
    return {place: checkpoint for place, checkpoint in found.items() if checkpoint is not None}


def _load_newest(directory: Path, config: dict[str, Any]) -> Checkpoint | None:
    found = load_newest(directory)
    if found is not None:
        path, saved = found
        check_format(saved, CHECKPOINT, path)
        before = without_old_behaviour(saved["config"])
        check_extends(before, config, differences(before, config), str(path))
    return found


def _named(weights_sha256: str | None) -> str:
    if weights_sha256 is None:
        return "random weights"
    return f"pretrained weights (SHA-256 {weights_sha256[:12]}...)"


def read_steps(path: Path, fold: int | None) -> list[Row]:
    """Return a fold's rows of steps.jsonl, oldest first; lines cut off by a kill are left out."""
    try:
        lines = read_regular(path / STEPS).splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if not list(mistakes(row, STEP)) and row.get("fold") == fold:
                rows.append(row)
    return rows


def _with_fold(row: Row, fold: int | None) -> Row:
    return row if fold is None else {"fold": fold, **row}

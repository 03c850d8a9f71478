"""The weights that a run's checkpoints hold, read without changing any file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.run.checkpoints import epoch_checkpoint, load_checkpoint
from mnist_exp.run.formats import check_format
from mnist_exp.run.saved_state import CHECKPOINT, KEYS
from mnist_exp.schema import integer, optional

BEST, LAST = "best", "last"
BEST_FILE = "best.pt"
BEST_CHECKPOINT = {"fold": optional(integer(1)), "epoch": integer(1), "model": KEYS}
AVERAGED = "module."  # prefix of the weights in the state of torch's AveragedModel


@dataclass(frozen=True)
class SavedWeights:
    """The weights of one epoch, as that epoch was evaluated: averaged if the run averages them.

    Attributes
    ----------
    file : Path
        The checkpoint.
    epoch : int
        From 1.
    state : dict of Tensor
        ``state_dict`` of the network on the CPU, conductances of a mapping included.
    """

    file: Path
    epoch: int
    state: Mapping[str, Tensor]


def folds_of(directory: Path) -> list[int | None]:
    """Return the folds with checkpoints in a run directory; ``[None]`` for a single split."""
    names = (re.fullmatch(r"fold_(\d+)", path.name) for path in directory.glob("checkpoints/*"))
    folds: list[int | None] = [*sorted(int(name[1]) for name in names if name)]
    return folds or [None]


def kept_epochs(directory: Path, fold: int | None = None) -> list[int]:
    """Return the epochs whose checkpoints a run directory still holds, ascending."""
    names = (path.name for path in _checkpoints(directory, fold).glob("epoch_*.pt"))
    found = (re.fullmatch(r"epoch_(\d+)\.pt", name) for name in names)
    return sorted(int(name[1]) for name in found if name)


def read_weights(directory: Path, epoch: int | str = BEST, fold: int | None = None) -> SavedWeights:
    """Read the weights of an epoch from a run directory.

    Parameters
    ----------
    directory : Path
        The run directory.
    epoch : int or {"best", "last"}
        "best" is the epoch whose results are reported. A number is that of a checkpoint that
        still exists: a run keeps the newest ``checkpoints.keep``.
    fold : int or None
        From 1; None for a run with a single split.

    Raises
    ------
    UserError
        If the run has no such fold or checkpoint, naming those it has, or the file is damaged.
    """
    _check_fold(directory, fold)
    place, kept = _checkpoints(directory, fold), kept_epochs(directory, fold)
    if epoch == BEST and (place / BEST_FILE).is_file():
        return _read(place / BEST_FILE)
    number = kept[-1] if epoch == LAST and kept else epoch
    if isinstance(number, bool) or number not in kept:
        best = [repr(BEST)] if (place / BEST_FILE).is_file() else []
        there = [*best, *map(str, kept)]
        raise UserError(
            f"epoch={epoch!r}: {place} has no such checkpoint; "
            + (f"allowed is {', '.join(there)}." if there else "there is none at all.")
        )
    return _read(epoch_checkpoint(place, int(number)))


def _read(path: Path) -> SavedWeights:
    return weights_in(load_checkpoint(path), path)


def weights_in(saved: Mapping[str, Any], path: Path) -> SavedWeights:
    """Return the weights in the content of best.pt, or of an epoch's checkpoint."""
    if "model" in saved:
        check_format(saved, BEST_CHECKPOINT, path)
        return SavedWeights(path, saved["epoch"], _tensors(saved["model"], path))
    check_format(saved, CHECKPOINT, path)
    state = saved["state"]
    weights, averaged = state["model"], state["averaged"]
    if averaged is not None:
        weights = {
            name.removeprefix(AVERAGED): value
            for name, value in averaged.items()
            if str(name).startswith(AVERAGED)
        }
    return SavedWeights(path, state["epoch"], _tensors(weights, path))


def _tensors(weights: Any, path: Path) -> Mapping[str, Tensor]:
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: is damaged: its weights have no names.")
    return weights


def _check_fold(directory: Path, fold: int | None) -> None:
    folds = folds_of(directory)
    if fold in folds and not isinstance(fold, bool):
        return
    if folds == [None]:
        raise UserError(f"fold={fold!r}: {directory} has a single split; leave fold out.")
    raise UserError(
        f"fold={fold!r}: {directory} has a network for each fold; give fold="
        f"{' or '.join(map(str, folds))}."
    )


def _checkpoints(directory: Path, fold: int | None) -> Path:
    checkpoints = directory / "checkpoints"
    return checkpoints if fold is None else checkpoints / f"fold_{fold}"

"""Weights to start a training from: those of a run, or of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mnist_exp.device.stored_weights import effective_state, is_conductance
from mnist_exp.errors import UserError
from mnist_exp.files.regular import read_regular
from mnist_exp.run.checkpoints import has_checksum, load_plain, unpack_checkpoint
from mnist_exp.run.formats import check_format
from mnist_exp.run.saved_state import KEYS
from mnist_exp.run.weights import BEST_FILE, folds_of, weights_in

KEY = "model.weights"
SHOWN = 8  # most entries named in a message
DEVICES = "mnist_exp.device.DeviceConstraint"
HINT = (
    "Entries behind parametrizations are conductances, which the file does not say how to map to "
    "weights: give the run directory or a checkpoint of it. For a constraint of your own, "
    "`python -m mnist_exp export RUN_DIR --format safetensors trust=true` writes the weights."
)


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from.

    Attributes
    ----------
    path : Path
        The file that was read.
    sha256 : str
        Of the file's content.
    state : dict of Tensor
        Effective weights and buffers, by name.
    left_out : list of str
        What did not fit the last network that they were loaded into.
    """

    path: Path
    sha256: str
    state: Mapping[str, Tensor]
    left_out: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, str]:
        """Return the entry of results.json."""
        return {"path": str(self.path), "sha256": self.sha256}

    def left_out_line(self) -> str:
        """Format what ``model.strict=false`` left out."""
        return f"{KEY}={self.path}: model.strict=false leaves out: {_listed(self.left_out)}"

    def load_into(self, model: nn.Module, strict: bool) -> None:
        """Copy the weights into a network without a constraint.

        Parameters
        ----------
        model : nn.Module
            Changed in place.
        strict : bool
            Whether names and shapes must be the network's; otherwise entries that do not fit are
            left out.

        Raises
        ------
        UserError
            Naming what does not fit, or if nothing fits.
        """
        own = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
        self.left_out[:] = self._misfits(own)
        fitting = {n: t for n, t in self.state.items() if n in own and _fits(t, own[n])}
        if (strict and self.left_out) or not fitting:
            raise UserError(
                f"{KEY}={self.path}: does not fit {type(model).__name__}: {_listed(self.left_out)}."
                + (f" {HINT}" if any(map(is_conductance, self.state.keys() - own.keys())) else "")
                + (" Take what fits with model.strict=false." if fitting else " Nothing fits.")
            )
        try:
            model.load_state_dict(fitting, strict=False)
        except RuntimeError as error:
            raise UserError(f"{KEY}={self.path}: {error}") from error

    def _misfits(self, own: Mapping[str, Tensor]) -> Iterator[str]:
        for name, tensor in own.items():
            if name not in self.state:
                yield f"{name} {list(tensor.shape)} is missing in the file"
            elif not _fits(self.state[name], tensor):
                yield f"{name} is {_shown(self.state[name], tensor)}"
        yield from (f"{name} is not in the network" for name in self.state if name not in own)


def read_pretrained(path: Path) -> Pretrained:
    """Read the weights of a run directory or file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        A run directory, whose ``checkpoints/best.pt`` is read; a checkpoint of a run; a file with
        a ``state_dict`` by torch.save; or one of safetensors.

    Raises
    ------
    UserError
        If there is no such file, or it holds no weights.
    """
    file = _file(path)
    try:
        content = read_regular(file)
    except OSError as error:
        raise UserError(f"{KEY}={path}: {file} cannot be read ({error.strerror}).") from error
    state: Any
    if file.suffix == ".safetensors":
        state = _safetensors(content, file)
    elif has_checksum(content):
        state = _of_checkpoint(unpack_checkpoint(content, file), file)
    else:
        state = load_plain(content, file)
    if not isinstance(state, Mapping) or not state or not all(map(_is_entry, state.items())):
        raise UserError(
            f"{KEY}={path}: holds no state_dict, that is, tensors by name; write one with "
            "torch.save(model.state_dict(), FILE)."
        )
    return Pretrained(file, hashlib.sha256(content).hexdigest(), dict(state))


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{KEY}={path}: there is no such file or run directory.")
        return path
    first = folds_of(path)[0]
    if first is not None:
        example = path / "checkpoints" / f"fold_{first}" / BEST_FILE
        raise UserError(
            f"{KEY}={path}: is a run with folds; give the weights of one, such as {KEY}={example}"
        )
    best = path / "checkpoints" / BEST_FILE
    if not best.is_file():
        raise UserError(
            f"{KEY}={path}: has no checkpoints/{BEST_FILE}. Give the directory of a run that has "
            "finished an epoch, or a file."
        )
    return best


def _of_checkpoint(saved: Mapping[str, Any], file: Path) -> Mapping[str, Tensor]:
    """Return the effective weights in a checkpoint, as its epoch was evaluated."""
    check_format(saved, {"config": KEYS}, file)
    state, constraint = weights_in(saved, file).state, saved["config"].get("constraint")
    of_devices = isinstance(constraint, Mapping) and constraint.get("_target_") == DEVICES
    if of_devices and all(map(_is_entry, state.items())):
        return effective_state(state, constraint)
    return state


def _safetensors(content: bytes, file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise UserError(
            f"{KEY}={file}: needs the package safetensors: pip install safetensors"
        ) from error
    try:
        return dict(load(content))
    except Exception as error:  # the library raises its own types
        raise UserError(f"{file}: is not a valid safetensors file ({error}).") from error


def _is_entry(entry: tuple[Any, Any]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor)


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _shown(given: Tensor, own: Tensor) -> str:
    if given.shape == own.shape:
        return f"of {given.dtype} in the file and {own.dtype} in the network"
    return f"{list(given.shape)} in the file and {list(own.shape)} in the network"


def _listed(sentences: list[str]) -> str:
    more = f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
    return "; ".join(sentences[:SHOWN]) + more

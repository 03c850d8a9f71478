"""Images and labels of any source, checked and brought into the one form that is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mnist_exp.errors import UserError

CHANNELS = (1, 3)  # grey, and red, green and blue
GREY = "[N, H, W]"
COLOUR = "[N, C, H, W] with 1 or 3 channels"
SHOWN = 12  # most labels listed in a message

Array = Tensor | npt.NDArray[Any]


def as_images(where: str, array: Array) -> Tensor:
    """Return images as uint8 ``[N, H, W]``, or ``[N, 3, H, W]`` in colour.

    Parameters
    ----------
    where : str
        Prefix of messages: the file, or the data set and its split.
    array : Tensor or ndarray
        uint8 ``[N, H, W]``, ``[N, C, H, W]`` or, as Keras and PIL have them, ``[N, H, W, C]``. With
        1 or 3 in both places, the channels are taken to come first.

    Raises
    ------
    UserError
        Naming the type or shape found, what is expected and how to convert.
    """
    kind, shape = _kind(array), list(array.shape)
    if kind != "uint8":
        raise UserError(f"{where}: pixels are {kind} {shape}; {_remedy(array)}")
    images = array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array))
    if images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        images = images.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    if images.ndim == 4 and images.shape[1] == 1:
        images = images.squeeze(1)  # (N, 1, H, W) -> (N, H, W)
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[1] in CHANNELS)
    if not fits or 0 in images.shape[1:]:
        flat = " Pixels in one row per image need their height and width: reshape them."
        raise UserError(
            f"{where}: pixels are uint8 {shape}; expected uint8 {GREY}, or {COLOUR}."
            + (flat if images.ndim == 2 else "")
        )
    return images.contiguous()


def as_labels(where: str, array: Array) -> Tensor:
    """Return labels as int64 ``[N]``, from whole numbers ``[N]`` or ``[N, 1]``.

    Raises
    ------
    UserError
        Naming the type or shape found and how to convert.
    """
    kind, shape = _kind(array), list(array.shape)
    if not kind.startswith(("int", "uint")):
        raise UserError(
            f"{where}: labels are {kind} {shape}; expected whole numbers [N]. For whole numbers "
            "in another type, write labels.astype('int64')."
        )
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    if len(shape) != 1:
        raise UserError(
            f"{where}: labels are {kind} {list(array.shape)}; expected one whole number per image, "
            "[N]. For one-hot rows, write labels.argmax(1)."
        )
    if isinstance(array, Tensor):
        return array.reshape(shape).long()
    return torch.from_numpy(array.reshape(shape).astype(np.int64))


def class_values(name: str, train: Tensor, test: Tensor) -> tuple[int, ...]:
    """Return the labels that occur in training, sorted: one a class.

    Raises
    ------
    UserError
        If there are fewer than two, or a test label is not among them.
    """
    known = train.unique().tolist()
    if len(known) < 2:
        raise UserError(
            f"{name}: every training image has the label {known[0]}; expected two classes or more."
        )
    if unknown := sorted(set(test.unique().tolist()) - set(known)):
        raise UserError(
            f"{name}: test labels {listed(unknown)} do not occur in training, whose labels are "
            f"{listed(known)}. Do the two files belong together?"
        )
    return tuple(known)


def listed(labels: Sequence[int]) -> str:
    """Return labels as text, the middle left out if there are many."""
    texts = [str(label) for label in labels]
    if len(texts) > SHOWN:
        texts = [*texts[: SHOWN - 2], "...", texts[-1]]
    return ", ".join(texts)


def _kind(array: Array) -> str:
    """Return the name of the type, such as int32, whatever its byte order."""
    return str(array.dtype)[6:] if isinstance(array, Tensor) else array.dtype.name


def _remedy(array: Array) -> str:
    """Say how to make pixels bytes, by their range."""
    expected = "expected uint8 from 0 to 255"
    values = array.numpy() if isinstance(array, Tensor) else array
    if values.dtype.kind not in "iuf" or not values.size:
        return f"{expected}."
    low, high = values.min(), values.max()
    found = f"they run from {low:.4g} to {high:.4g}"
    if not (low >= 0 and high <= 255):
        return f"{expected}, but {found}. Rescale them, then write images.astype('uint8')."
    if values.dtype.kind == "f" and high <= 1:
        return f"{expected}, but {found}. Write (images * 255).round().astype('uint8')."
    return f"{expected}; {found}, so write images.astype('uint8')."

"""Reader of .npz archives in the form of Keras's and MedMNIST's data sets."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.data.arrays import as_images, as_labels
from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.errors import UserError
from mnist_exp.files.regular import check_memory, open_regular

# Names of the training images and labels, and the test images and labels.
KERAS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")


def load_npz(file: str | Path, *, name: str | None = None) -> Dataset:
    """Load an .npz archive with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    MedMNIST's names, ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``, will
    do too. Nothing in the file is executed.

    Parameters
    ----------
    file : str or Path
        Images are uint8 [N, H, W], [N, C, H, W] or [N, H, W, C]; labels whole numbers [N] or
        [N, 1].
    name : str, optional
        The data set's name; the file's by default.

    Raises
    ------
    UserError
        If the file is missing or damaged, or an array is missing or of another type or shape.
    """
    path = Path(file).expanduser()
    found = _read(path)
    keys = list(found)
    train, test = (
        (as_images(f"{path}, {x}", found[x]), as_labels(f"{path}, {y}", found[y]))
        for x, y in (keys[:2], keys[2:])
    )
    return pool(name or path.stem, train, test)


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the four arrays by name, images and labels of training first."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            keys = next((keys for keys in (KERAS, MEDMNIST) if held.keys() >= set(keys)), None)
            if keys is None:
                raise UserError(
                    f"{path}: holds {', '.join(sorted(held)) or 'nothing'}; expected the arrays "
                    f"{', '.join(KERAS)} (or {', '.join(MEDMNIST)}), as "
                    "numpy.savez(file, x_train=..., ...) writes them."
                )
            return {key: _array(path, archive, held[key]) for key in keys}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{path}: is not an .npz archive, or a damaged one ({error}); numpy.savez writes "
            "such files."
        ) from error


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    check_memory(path, info.file_size)
    try:
        with archive.open(info) as member:
            array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    except (ValueError, MemoryError, RuntimeError) as error:
        pickled = "Object arrays" in str(error)
        reason = (
            "it holds Python objects, which may run code when they are read; save arrays of numbers"
            if pickled
            else f"it is damaged ({error})"
        )
        raise UserError(f"{path}, {info.filename.removesuffix('.npy')}: {reason}.") from error
    return array

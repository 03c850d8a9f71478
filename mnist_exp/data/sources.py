"""Sources of data sets: the bundled MNIST, IDX directories, the MNIST family of torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError

from torch import Tensor

from mnist_exp.data.arrays import as_images
from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.data.idx import check_md5, read_idx
from mnist_exp.errors import UserError

BUNDLED = Path(__file__).parent / "mnist"
# From torchvision.datasets.MNIST.resources.
BUNDLED_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
# Mirrors vary in punctuation; EMNIST puts emnist-letters- and the like first, and says test.
IDX_NAME = re.compile(
    r"(?:(?P<prefix>.*)-)?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d[-.]ubyte(\.gz)?"
)


def load_mnist() -> Dataset:
    """Load the MNIST that ships with the package: 60,000 training and 10,000 test images.

    Raises
    ------
    UserError
        If a bundled file is missing or differs from the published MD5.
    """
    for name, md5 in BUNDLED_MD5.items():
        check_md5(BUNDLED / name, md5)
    return load_idx_directory(BUNDLED, name="MNIST")


def load_idx_directory(
    root: str | Path, *, prefix: str | None = None, name: str | None = None
) -> Dataset:
    """Load a directory with the four IDX files, each ``.gz`` or not.

    Parameters
    ----------
    root : str or Path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``.
    prefix : str, optional
        What their names start with, such as ``emnist-letters``; needed where the directory holds
        several data sets.
    name : str, optional
        The data set's name; the directory's, or the prefix, by default.

    Raises
    ------
    UserError
        If a file is missing or malformed; the message names the file and the reason.
    """
    root = Path(root).expanduser()
    prefix, files = _idx_files(root, prefix)
    train, test = (_read_split(files, split) for split in ("train", "test"))
    return pool(name or prefix or root.resolve().name, train, test)


def load_torchvision(name: str, *, root: str | Path = "data", download: bool = True) -> Dataset:
    """Load FashionMNIST, KMNIST, EMNIST (digits) or QMNIST through torchvision.

    Parameters
    ----------
    name : {"FashionMNIST", "KMNIST", "EMNIST", "QMNIST"}
        torchvision's class name.
    root : str or Path
        Directory where torchvision reads and stores its files.
    download : bool
        Whether missing files may be fetched from the network.

    Raises
    ------
    UserError
        If the name is unknown, or files are missing and cannot be downloaded.
    """
    readers = _torchvision_readers()
    if name not in readers:
        raise UserError(f"data.name={name}: allowed are {', '.join(readers)}.")
    root = Path(root).expanduser()
    try:
        train, test = (readers[name](root, train, download) for train in (True, False))
    except (RuntimeError, OSError, URLError) as error:
        raise UserError(_missing_files_message(name, root, error)) from error
    return pool(name, train, test)


Reader = Callable[[Path, bool, bool], tuple[Tensor, Tensor]]


def _torchvision_readers() -> dict[str, Reader]:
    from torchvision import datasets  # slow to import (a second) and rarely needed

    def plain(dataset: type[datasets.MNIST]) -> Reader:
        def read(root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
            split = dataset(root, train=train, download=download)
            return split.data, split.targets

        return read

    def emnist(root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        split = datasets.EMNIST(root, split="digits", train=train, download=download)
        return split.data.transpose(1, 2).contiguous(), split.targets  # stored transposed

    def qmnist(root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        split = datasets.QMNIST(root, train=train, download=download)
        return split.data, split.targets[:, 0]  # the other seven describe the writer

    return {
        "FashionMNIST": plain(datasets.FashionMNIST),
        "KMNIST": plain(datasets.KMNIST),
        "EMNIST": emnist,
        "QMNIST": qmnist,
    }


def _missing_files_message(name: str, root: Path, error: Exception) -> str:
    from torchvision import datasets

    if name == "EMNIST":
        files = ["gzip.zip (EMNIST's own archive)"]
    elif name == "QMNIST":
        splits = (datasets.QMNIST.resources[split] for split in ("train", "test"))
        files = [url.rpartition("/")[2] for resources in splits for url, _ in resources]
    else:
        files = [file for file, _ in getattr(datasets, name).resources]
    return (
        f"data.root={root}: {name} was not found and could not be downloaded "
        f"({str(error).strip().splitlines()[0]}).\n"
        f"Place these files in {root / name / 'raw'}:\n  "
        + "\n  ".join(files)
        + "\nor set data.root to the directory that already holds "
        f"{name}/raw, or use the bundled data=mnist."
    )


def _read_split(files: Mapping[str, Path], split: str) -> tuple[Tensor, Tensor]:
    images_path, labels_path = files[f"{split} images"], files[f"{split} labels"]
    images, labels = read_idx(images_path, 3, 4), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} "
            "labels; the two files do not belong together."
        )
    return as_images(str(images_path), images), labels


def _idx_files(root: Path, prefix: str | None) -> tuple[str, dict[str, Path]]:
    """Return the prefix of a data set in a directory, and its four files by split and kind."""
    if not root.is_dir():
        raise UserError(
            f"data.root={root}: there is no such directory. Give the one that holds the four IDX "
            f"files: {', '.join(f'{name}-ubyte' for name in IDX_FILES)}."
        )
    try:
        paths = sorted(path for path in root.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(f"data.root={root}: cannot be read ({error.strerror}).") from error
    sets: dict[str, dict[str, Path]] = {}
    for path in paths:
        if found := IDX_NAME.fullmatch(path.name):
            split = "train" if found["split"] == "train" else "test"
            of_set = sets.setdefault(found["prefix"] or "", {})
            of_set.setdefault(f"{split} {found['kind']}", path)  # sorted: unpacked before .gz
    prefixes = ", ".join(name or "(none)" for name in sets)
    if prefix is None and len(sets) > 1 and "" not in sets:
        raise UserError(
            f"data.root={root}: holds several data sets, whose names start with {prefixes}. "
            "Choose one with data.prefix."
        )
    chosen = ("" if "" in sets or not sets else next(iter(sets))) if prefix is None else prefix
    files = sets.get(chosen, {})
    for expected in IDX_FILES:
        split, kind, _ = expected.replace("t10k", "test").split("-")
        if f"{split} {kind}" not in files:
            start = f"{chosen}-" if chosen else ""
            raise UserError(
                f"data.root={root}: {start}{expected}-ubyte (or {start}{expected}-ubyte.gz) was "
                "not found. The directory must hold the four IDX files: "
                + ", ".join(f"{start}{name}-ubyte" for name in IDX_FILES)
                + (f". Prefixes there: {prefixes}." if prefix is not None and sets else ".")
            )
    return chosen, files

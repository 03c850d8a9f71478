"""Sources of data sets: the bundled MNIST, IDX directories, torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

from torch import Tensor

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
IDX_STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


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


def load_idx_directory(root: str | Path, *, name: str | None = None) -> Dataset:
    """Load a directory with the four IDX files, each ``.gz`` or not.

    Parameters
    ----------
    root : str or Path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``.
    name : str, optional
        The data set's name; the directory's by default.

    Raises
    ------
    UserError
        If a file is missing or malformed; the message names the file and the reason.
    """
    root = Path(root).expanduser()
    files = [_find_idx(root, stem) for stem in IDX_STEMS]
    train, test = (_read_split(*files[:2]), _read_split(*files[2:]))
    return pool(name or root.resolve().name, train, test)


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


def _read_split(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} "
            "labels; the two files do not belong together."
        )
    return images, labels


def _find_idx(root: Path, stem: str) -> Path:
    # torchvision unpacks to "-ubyte"; some mirrors write ".ubyte"
    for ending in ("-ubyte", ".ubyte", "-ubyte.gz", ".ubyte.gz"):
        path = root / (stem + ending)
        if path.is_file():
            return path
    raise UserError(
        f"data.root={root}: {stem}-ubyte (or {stem}-ubyte.gz) was not found. The directory must "
        "hold the four IDX files: " + ", ".join(f"{stem}-ubyte" for stem in IDX_STEMS) + "."
    )

"""The data set of this process's last job, kept for the next one: a sweep reads it once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from omegaconf import DictConfig

from mnist_exp.data import Dataset
from mnist_exp.data.sources import BUNDLED
from mnist_exp.experiment.instantiate import call_target, settings, target_path

OWN_LOADERS = "mnist_exp.data."  # others may depend on more than their arguments and files
File = tuple[str, int, int]  # path, size in bytes, time of the last write in ns
_last: list[tuple[object, Dataset]] = []  # one at most


def load_dataset(config: DictConfig) -> Dataset:
    """Call ``data._target_``, unless the last call read the same files with the same arguments.

    Raises
    ------
    UserError
        As `call_target`.
    """
    target = target_path(config, "data")
    if not target.startswith(OWN_LOADERS):
        dataset: Dataset = call_target(config, "data")
        return dataset
    arguments = settings(config, "data")
    read = list(_files(map(str, arguments.values())))
    key = (target, repr(arguments), read)
    if not any(kept == (key, _writes(dataset)) for kept, dataset in _last):
        _last.clear()  # frees it before the next one is read
        dataset = call_target(config, "data")
        _last.append(((key, _writes(dataset)), dataset))
    return _last[0][1]


def _files(arguments: Iterable[str]) -> Iterator[File]:
    """Yield the files that a loader could read: in directories among its arguments, or bundled."""
    for argument in {str(BUNDLED), *arguments}:
        path = Path(argument).expanduser()
        for file in [path, *path.glob("*"), *path.glob("*/raw/*")]:
            if file.is_file():
                status = file.stat()
                yield str(file), status.st_size, status.st_mtime_ns


def _writes(dataset: Dataset) -> tuple[int, int]:
    """Count the writes to the tensors, which other code could have changed in place."""
    return dataset.images._version, dataset.labels._version

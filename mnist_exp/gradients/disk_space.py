"""Disk space that a collection takes, and settings that take less."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from torch import nn

from mnist_exp.errors import UserError
from mnist_exp.gradients.preparation import CollectionSettings, Preparation
from mnist_exp.gradients.samples import Samples
from mnist_exp.wording import counted

# Headers, manifest, statistics and the list of hardest samples.
EPOCH_OVERHEAD = 1 << 16
# Share of the free space that a suggested max_samples fills.
FILL = 0.9


def disk_bytes(model: nn.Module, samples: Samples, settings: CollectionSettings) -> int:
    """Compute the bytes that one epoch's gradients of ``samples`` take, to about a percent."""
    preparation = Preparation(model, samples, settings)
    return len(samples) * row_bytes(preparation) + EPOCH_OVERHEAD + mean_bytes(preparation)


def row_bytes(preparation: Preparation) -> int:
    """Compute the bytes per sample: gradients or factors, norms, loss, cosine, label and id."""
    return preparation.layout.row_bytes + 4 * (len(preparation.model.names) + 2) + 2 * 8


def mean_bytes(preparation: Preparation) -> int:
    """Compute the bytes of the mean gradient and of the weights from which factors are derived."""
    shapes = preparation.model.shapes
    derived = [shapes[array.weight] for array in preparation.layout.derived]
    return 4 * sum(map(prod, [*shapes.values(), *derived]))


def check_disk_space(
    model: nn.Module,
    samples: Samples,
    settings: CollectionSettings,
    *,
    directory: Path,
    num_epochs: int,
) -> int:
    """Return the bytes that ``num_epochs`` collections take, if the disk has room.

    Raises
    ------
    UserError
        If it has not. The message gives needed and free space and up to three settings that fit.
    """
    needed = num_epochs * disk_bytes(model, samples, settings)
    existing, free = free_space(directory)
    if needed <= free:
        return needed
    alternatives = (
        (setting, num_epochs * size)
        for setting, size in cheaper_settings(model, samples, settings, free // num_epochs)
    )
    fitting = [f"{s} ({readable(size)})" for s, size in alternatives if size <= free]
    raise UserError(
        f"The gradients of {counted(len(samples), 'sample')} take {readable(needed)} in "
        f"{counted(num_epochs, 'collection')} with gradients.format={settings.format}, "
        f"dtype={settings.dtype}; {existing} has {readable(free)} free. These fit: "
        f"{'; '.join(fitting[:3]) or 'none'}."
    )


def free_space(directory: Path) -> tuple[Path, int]:
    """Return the directory or its nearest existing parent, and the free bytes of its disk."""
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    return existing, shutil.disk_usage(existing).free


def cheaper_settings(
    model: nn.Module, samples: Samples, settings: CollectionSettings, free: int
) -> Iterator[tuple[str, int]]:
    """Yield settings that take less, the most faithful first, with their bytes per epoch."""
    if settings.format == "dense":
        yield (
            "gradients.format=factored",
            disk_bytes(model, samples, replace(settings, format="factored")),
        )
    if settings.format != "statistics" and settings.dtype == "float32":
        yield (
            "gradients.dtype=float16",
            disk_bytes(model, samples, replace(settings, dtype="float16")),
        )
    preparation = Preparation(model, samples, settings)
    constant = EPOCH_OVERHEAD + mean_bytes(preparation)
    count = int(FILL * (free - constant)) // row_bytes(preparation)
    if count > 0:
        size = count * row_bytes(preparation) + constant
        yield f"gradients.max_samples={count}", size
    chosen = without_largest(preparation.model.shapes)
    if chosen:
        size = disk_bytes(model, samples, replace(settings, parameters=chosen))
        yield f"gradients.parameters=[{','.join(chosen)}]", size
    if settings.format != "statistics":
        yield (
            "gradients.format=statistics",
            disk_bytes(model, samples, replace(settings, format="statistics")),
        )


def without_largest(shapes: dict[str, tuple[int, ...]]) -> Sequence[str]:
    """Return all parameter names except the largest parameter's."""
    largest = max(shapes, key=lambda name: prod(shapes[name]))
    return [name for name in shapes if name != largest]


def readable(size: int) -> str:
    """Format a number of bytes in MB or GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"

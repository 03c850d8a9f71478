"""Small data sets of any shape, written as a user would: IDX, .npz and CSV files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def few(labels: list[int], *shape: int, each: int = 20, seed: int = 0) -> Split:
    """Return ``each`` images [shape] of every label: the label's pattern under noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(1).integers(0, 200, (max(labels) + 1, *shape))
    y = np.repeat(labels, each)
    images = patterns[y] + rng.integers(0, 56, (len(y), *shape))
    return images.astype(np.uint8), y


def write_idx(root: Path, train: Split, test: Split, prefix: str = "") -> Path:
    """Write the four files into a directory and return it."""
    root.mkdir(exist_ok=True)
    for split, (images, labels) in {"train": train, "t10k": test}.items():
        for kind, array in {"images": images, "labels": labels.astype(np.uint8)}.items():
            sizes = struct.pack(f">{array.ndim}I", *array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (root / f"{prefix}{split}-{kind}-idx{array.ndim}-ubyte").write_bytes(content)
    return root


def write_csv(path: Path, split: Split, *, names: bool) -> Path:
    """Write a row an image, with or without column names; gzipped if the name says so."""
    images, labels = split
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    lines = [",".join(map(str, row)) for row in rows.tolist()]
    if names:
        lines.insert(0, ",".join(["label", *(f"pixel{i}" for i in range(rows.shape[1] - 1))]))
    content = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path

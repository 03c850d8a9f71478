"""Images on a page: all in one PNG, from which the page's script cuts what it shows.

PNG, since any browser decodes it: handwritten digits take a fifth of their pixels' bytes.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
WIDEST = 2048  # pixels of the PNG; canvases and decoders of phones take that
MOST_BYTES = 3_000_000  # of pixels before compression
LARGEST = 560_000  # bytes of the PNG; a third more as base64 in the page
SAMPLES = 24  # images of each kind
LEVEL = 1  # zlib's level: 6 saves a tenth and takes three times as long


@dataclass(frozen=True)
class RunImages:
    """Images that the report of a run shows.

    Attributes
    ----------
    pixels : ndarray
        uint8 [M, H, W] or [M, 3, H, W], the data set; predictions name its rows.
    labels : ndarray
        int [M].
    train : ndarray
        int; rows of some training images of the first split.
    augmented : ndarray or None
        uint8 [rows, columns, C, H, W]: in each row a training image and augmented versions of it;
        None without augmentation.
    """

    pixels: Array
    labels: Array
    train: Array
    augmented: Array | None = None


class Sprite:
    """Images of one size in one PNG, the important ones first; what does not fit is left out.

    Parameters
    ----------
    images : RunImages or None
        None: there are no images, and no row has a tile.
    """

    def __init__(self, images: RunImages | None) -> None:
        self.images = images
        self._tiles: list[Array] = []
        self._of_row: dict[int, int] = {}

    def row(self, row: int) -> int:
        """Return the tile of a row of the data set, added if new; -1 without images."""
        if self.images is None or not 0 <= row < len(self.images.pixels):
            return -1
        if row not in self._of_row:
            self._of_row[row] = self.add(self.images.pixels[row])
        return self._of_row[row]

    def add(self, image: Array) -> int:
        """Add an image, uint8 [H, W] or [C, H, W], and return its tile."""
        self._tiles.append(image if image.ndim == 2 else np.moveaxis(image, 0, -1).squeeze())
        return len(self._tiles) - 1

    def content(self) -> dict[str, Any] | None:
        """Return what the page's script reads; None without images.

        Tiles from ``count`` on are left out.
        """
        if not self._tiles:
            return None
        height, width = self._tiles[0].shape[:2]
        columns = max(1, min(WIDEST // width, 32))
        count = min(len(self._tiles), max(1, MOST_BYTES // self._tiles[0].size))
        content = png(tiled(self._tiles[:count], columns))
        while len(content) > LARGEST and count > 1:
            count = max(1, int(0.95 * count * LARGEST / len(content)))
            content = png(tiled(self._tiles[:count], columns))
        return {
            "png": base64.b64encode(content).decode(),
            "width": width, "height": height, "columns": columns, "count": count,
        }  # fmt: skip


def tiled(images: list[Array], columns: int) -> Array:
    """Return images [H, W] or [H, W, 3] side by side, ``columns`` a row, black at the end."""
    height, width, *channels = images[0].shape
    rows = -(-len(images) // columns)
    grid = np.zeros((rows * columns, height, width, *channels), np.uint8)
    grid[: len(images)] = images
    return (
        grid.reshape(rows, columns, height, width, *channels)
        .swapaxes(1, 2)
        .reshape(rows * height, columns * width, *channels)
    )


def png(pixels: Array) -> bytes:
    """Return uint8 pixels [H, W] or [H, W, 3] as a PNG (W3C, Portable Network Graphics)."""
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else 2
    lines = pixels.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), lines], 1).tobytes()
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(unfiltered, LEVEL)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

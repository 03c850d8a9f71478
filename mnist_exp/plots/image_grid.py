"""Grids of small images as one image, with a text above and a frame around each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_exp.plots.figures import Axes, Figure, Rectangle

SIDE = 1.1  # inches, of the longer side of an image
GAP = 0.15  # inches between images, and at the edges of the figure
LINE = 1.25 / 72  # inches, of a line of text a point of its size
TITLE_SIZE = 11  # points
CHARACTER = 0.09  # inches, of a title's character on average
FINEST = 28  # pixels of the longer side; smaller images are enlarged so that gaps can be as narrow


def grid_figure(
    images: npt.NDArray[Any],
    title: str,
    *,
    texts: Sequence[str] = (),
    frames: Sequence[str | None] = (),
    columns: int | None = None,
    text_size: float = 8,
) -> Figure:
    """Draw images row by row, on one pair of axes: a pair for each takes ten times as long.

    Parameters
    ----------
    images
        [N, H, W] or [N, C, H, W], C 1 or 3: float in [0, 1] or uint8. Grey uint8 images are
        stretched from black to white, each by itself.
    title
        Above the grid.
    texts
        Above each image, in the colour of its frame or else black. Empty: none.
    frames
        Colour of each image's frame; None: no frame. Empty: none.
    columns
        Images in a row; None: as many as rows.
    text_size
        Points.
    """
    tiles = _enlarged(_coloured(images))
    count, height, width, _ = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    inch = max(height, width) / SIDE  # in pixels
    lines = max((text.count("\n") + 1 for text in texts), default=0)
    above = max(GAP, lines * text_size * LINE + GAP / 2)
    longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
    text_width = longest * CHARACTER * text_size / TITLE_SIZE * inch
    across = max(height, width, round(text_width)) + round(GAP * inch)
    down = height + round(above * inch)
    mosaic = np.full((rows * down, columns * across, 3), 255, np.uint8)
    left = (across - width) // 2
    corners = [
        (number % columns * across + left, (number // columns + 1) * down - height)
        for number in range(count)
    ]
    for tile, (x, y) in zip(tiles, corners, strict=True):
        mosaic[y : y + height, x : x + width] = tile
    figure, axis = _canvas(mosaic, inch, title)
    for (x, y), text, colour in zip_longest(corners, texts, frames):
        if text is not None:
            place: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": text_size}
            axis.text(x + width / 2, y - GAP / 3 * inch, text, color=colour or "black", **place)
        if colour is not None:
            frame: dict[str, Any] = {"fill": False, "ec": colour, "lw": 2, "clip_on": False}
            axis.add_patch(Rectangle((x, y), width, height, **frame))
    return figure


def _canvas(mosaic: npt.NDArray[np.uint8], inch: float, title: str) -> tuple[Figure, Axes]:
    """Show an image of ``inch`` pixels an inch; return the figure and axes of its pixels."""
    height, width = (side / inch for side in mosaic.shape[:2])
    lines = title.splitlines()
    whole_width = max(width + GAP, CHARACTER * max(map(len, lines)))
    whole_height = height + len(lines) * TITLE_SIZE * LINE + 2 * GAP
    figure = Figure(figsize=(whole_width, whole_height))
    margin = (1 - width / whole_width) / 2
    axis = figure.add_axes((margin, GAP / whole_height, width / whole_width, height / whole_height))
    axis.set_axis_off()
    # pixels start at whole numbers
    axis.imshow(
        mosaic,
        aspect="auto",
        extent=(0, mosaic.shape[1], mosaic.shape[0], 0),
    )
    figure.suptitle(title, fontsize=TITLE_SIZE, y=1 - GAP / 2 / whole_height, va="top")
    return figure, axis


def _coloured(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return images as uint8 [N, H, W, 3]."""
    pixels = images[:, None] if images.ndim == 3 else images
    if images.dtype != np.uint8:
        pixels = (255 * pixels).round().astype(np.uint8)
    elif pixels.shape[1] == 1:
        black, white = (f(pixels, (1, 2, 3), keepdims=True) for f in (np.min, np.max))
        stretched = (pixels - black) * (255 / np.maximum(white - black, 1))
        pixels = stretched.round().astype(np.uint8)
    # (N, C, H, W) -> (N, H, W, 3)
    return np.broadcast_to(pixels.transpose(0, 2, 3, 1), (*pixels[:, 0].shape, 3))


def _enlarged(tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Repeat the pixels of [N, H, W, 3] until the longer side has `FINEST`."""
    times = math.ceil(FINEST / max(tiles.shape[1:3]))
    return tiles if times == 1 else tiles.repeat(times, 1).repeat(times, 2)

"""The one PNG of a page: the right pixels in the right place, and never too large."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mnist_exp.report.images import LARGEST, RunImages, Sprite


def images_of(*shape: int, number: int, seed: int = 0) -> RunImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (number, *shape), np.uint8)
    return RunImages(pixels, np.arange(number) % 10, np.arange(number))


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 5, 7)])
def test_every_tile_holds_its_image(shape: tuple[int, ...]) -> None:
    images = images_of(*shape, number=100)
    sprite = Sprite(images)
    tiles = {row: sprite.row(row) for row in (99, 3, 99, 70, *range(60))}
    content = sprite.content()
    assert content is not None
    assert content["count"] == len({*tiles}) == 62
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content["png"]))))
    for row, tile in tiles.items():
        y, x = 5 * (tile // content["columns"]), 7 * (tile % content["columns"])
        whole = images.pixels[row]
        expected = whole if whole.ndim == 2 else np.moveaxis(whole, 0, -1).squeeze()
        np.testing.assert_array_equal(picture[y : y + 5, x : x + 7], expected)


def test_what_does_not_compress_is_cut_off_at_the_end() -> None:
    sprite = Sprite(images_of(3, 64, 64, number=400))  # noise
    for row in range(400):
        sprite.row(row)
    content = sprite.content()
    assert content is not None
    assert 0.7 * LARGEST < len(base64.b64decode(content["png"])) <= LARGEST
    assert 0 < content["count"] < 400


def test_rows_without_an_image_have_no_tile() -> None:
    assert Sprite(None).row(0) == -1
    assert Sprite(images_of(4, 4, number=2)).row(2) == -1
    assert Sprite(None).content() is None

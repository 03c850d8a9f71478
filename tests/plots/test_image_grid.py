"""A grid of images shows each image, its text and its frame at one place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mnist_exp.plots.figures import Figure
from mnist_exp.plots.image_grid import grid_figure


def shown(figure: Figure) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Return the pixels of the figure's one image, and left, top, width and height of frames."""
    (axis,) = figure.axes
    boxes = [frame.get_bbox().bounds for frame in axis.patches]  # type: ignore[attr-defined]
    whole = [tuple(round(number) for number in box) for box in boxes]
    return np.asarray(axis.images[0].get_array()), whole


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 20, 40), (3, 40, 20), (5, 3)])
def test_each_image_lies_in_its_frame_and_nothing_outside(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((7, *shape))
    mosaic, boxes = shown(grid_figure(images, "title", frames=["red"] * 7))
    assert len(set(boxes)) == 7
    rest = mosaic.copy()
    for image, (x, y, width, height) in zip(images, boxes, strict=True):
        times = height // shape[-2]
        assert (height, width) == (times * shape[-2], times * shape[-1])
        colours = 255 * (image.transpose(1, 2, 0) if image.ndim == 3 else image[..., None])
        tile = mosaic[y : y + height, x : x + width]
        whole = np.broadcast_to(colours, (*shape[-2:], 3))
        np.testing.assert_allclose(tile[::times, ::times], whole, atol=0.51)
        rest[y : y + height, x : x + width] = 255
    assert (rest == 255).all()


def test_texts_stand_above_their_images_within_the_figure_and_do_not_touch() -> None:
    images = np.zeros((5, 28, 28), np.uint8)
    texts = ["one", "#2, norm 3.5\ntrue 2\npredicted 3", "", "#59990, norm 1.23e-05", "five"]
    figure = grid_figure(images, "a title\nof two lines", texts=texts, columns=2)
    figure.canvas.draw()
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert [text.get_text() for text in axis.texts] == texts
    title = figure.texts[0].get_window_extent()
    tallest = boxes[1]
    assert tallest.y1 < title.y0 < title.y1 <= figure.bbox.y1
    assert boxes[3].x0 > boxes[2].x1
    assert boxes[1].x0 > boxes[0].x1
    wide = grid_figure(images, "title", texts=["#59990, norm 1.23e-05"] * 5, columns=5)
    wide.canvas.draw()
    (axis,) = wide.axes
    beside = [text.get_window_extent() for text in axis.texts]
    assert all(left.x1 < right.x0 for left, right in pairwise(beside))
    assert boxes[3].y1 < tallest.y0


def test_grey_images_of_bytes_go_from_black_to_white_and_colours_stay() -> None:
    grey = np.array([[[10, 20], [30, 60]], [[7, 7], [7, 7]]], np.uint8)
    mosaic, boxes = shown(grid_figure(grey, "title", frames=["red"] * 2))
    (x, y, side, _), (flat_x, flat_y, *_) = boxes
    corners = mosaic[[y, y + side - 1], [x, x + side - 1], 0]
    assert corners.tolist() == [0, 255]
    assert mosaic[flat_y, flat_x].tolist() == [0, 0, 0]
    colours = np.full((1, 3, 4, 4), 51, np.uint8)
    mosaic, ((x, y, *_),) = shown(grid_figure(colours, "title", frames=["red"]))
    assert mosaic[y, x].tolist() == [51, 51, 51]


def test_frames_are_drawn_where_they_are_named() -> None:
    images = np.zeros((4, 28, 28), np.uint8)
    _, boxes = shown(grid_figure(images, "title", frames=["blue", None, "blue", None], columns=2))
    assert len({x for x, *_ in boxes}) == 1
    assert len(boxes) == 2

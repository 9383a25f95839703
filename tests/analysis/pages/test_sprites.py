"""Strips of samples: squares that show them, and no more than a picture can hold."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from luceloop.analysis.drawing.squares import SIDE, is_drawable, sample_limits, square
from luceloop.analysis.pages.sprites import MOST_SQUARES, _thinned, draw_strip


def test_a_square_has_dots_where_samples_are():
    samples = np.array([[0.0, 0.0], [1.0, 1.0]])
    picture = square(samples, "#ff0000", (np.array([-1.0, -1.0]), np.array([3.0, 3.0])), side=41)
    assert picture.shape == (41, 41, 3) and picture.dtype == np.uint8
    dots = {tuple(place) for place in np.argwhere(picture[..., 1] < 200)}
    # (0, 0) is a quarter from the left and from the bottom; a dot is two pixels wide.
    assert {(30, 10), (20, 20)} <= dots and len(dots) <= 8
    assert (picture[30, 10] == [255, 128, 128]).all()  # half covered by red


def test_samples_beyond_the_frame_are_not_drawn_at_its_edge():
    far = np.array([[9.0, 0.0], [0.0, -9.0]])
    assert (square(far, "#000000", (np.full(2, -1.0), np.full(2, 1.0))) == 255).all()


def test_images_are_tiled():
    images = np.full((9, 1, 8, 8), -1.0)
    images[4] = 1.0  # the middle one
    picture = square(images, "#000000", None, side=24)
    assert (picture[8:16, 8:16] == 255).all() and picture.sum() == 64 * 3 * 255


@pytest.mark.parametrize(
    ("shape", "drawable"),
    [((2, 9, 2), True), ((2, 9, 3), False), ((1, 4, 3, 8, 8), True), ((1, 4, 2, 8, 8), False)],
)
def test_planes_and_images_can_be_drawn(shape, drawable):
    assert is_drawable(np.zeros(shape)) == drawable


def test_long_sweeps_have_strips_that_a_picture_can_hold():
    found = {t: np.random.default_rng(t).normal(size=(20, 2)) for t in range(300)}
    thin = _thinned(found)
    assert len(thin) == MOST_SQUARES and {0, 299} <= thin.keys()
    strip = draw_strip(thin, "#0072B2", sample_limits(list(found.values())))
    assert Image.open(io.BytesIO(strip)).size == (SIDE * MOST_SQUARES, SIDE)
    assert _thinned({0: found[0]}).keys() == {0}

from __future__ import annotations

import itertools

import numpy as np
import pytest

from t2i.world.shapes import SHAPES, draw_shape


def test_there_are_twenty_eight_names() -> None:
    assert len(SHAPES) == len(set(SHAPES)) == 28


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_fills_its_picture_and_is_colourful(name: str) -> None:
    rgba = draw_shape(name, 64)
    assert rgba.shape == (64, 64, 4) and rgba.dtype == np.uint8
    rows, columns = np.nonzero(rgba[..., 3] > 8)
    assert max(np.ptp(rows), np.ptp(columns)) >= 62
    body = rgba[rgba[..., 3] > 200][:, :3].astype(int)
    assert len(body) > 0.12 * 64 * 64
    chroma = body.max(1) - body.min(1)
    # The snowman is white with a coloured hat and scarf; every other body is mostly one saturated colour.
    assert (chroma > 80).mean() > (0.15 if name == "snowman" else 0.4)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_sizes_and_repeatability(size: int) -> None:
    one, two = draw_shape("fish", size), draw_shape("fish", size)
    assert one.shape == (size, size, 4)
    assert np.array_equal(one, two)
    one[:] = 0  # a caller's copy, not the cache
    assert np.array_equal(two, draw_shape("fish", size))


def test_edges_are_smooth_and_free_of_dark_fringes() -> None:
    rgba = draw_shape("circle", 64)
    soft = (rgba[..., 3] > 20) & (rgba[..., 3] < 235)
    assert soft.sum() > 40
    assert rgba[soft][:, 0].mean() > 90  # red stays red on the rim


def test_no_two_shapes_look_alike() -> None:
    small = {name: draw_shape(name, 32).astype(float) / 255 for name in SHAPES}
    for a, b in itertools.combinations(SHAPES, 2):
        assert np.abs(small[a] - small[b]).mean() > 0.04, (a, b)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(KeyError):
        draw_shape("dodecahedron")

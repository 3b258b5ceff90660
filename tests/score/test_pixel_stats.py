"""What pixels alone say: mush, nothing, burnt, and the same picture again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from t2i.score.pixel_stats import find_duplicates, pixel_stats


def noise(seed: int, side: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


def test_blur_lowers_sharpness() -> None:
    image = noise(0)
    sharp, blurred = (pixel_stats(i)[0].sharpness for i in (image, image.filter(ImageFilter.GaussianBlur(3))))
    assert blurred < 0.5 * sharp
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (8, 4))).convert("RGB")
    assert pixel_stats(stripes)[0].sharpness == pytest.approx(510, rel=1e-5)  # the Laplacian is -510 and 510 in turn


def test_blank_and_clipped() -> None:
    assert pixel_stats(Image.new("RGB", (9, 9), (120, 121, 119)))[0].blank == 1
    assert pixel_stats(noise(1))[0].blank == 0
    half = Image.new("RGB", (10, 10), (80, 90, 100))
    half.paste((255, 255, 255), (0, 0, 10, 5))
    assert pixel_stats(half)[0].clipped == 0.5


def test_the_hash_is_of_pixels_and_size() -> None:
    a, b = Image.new("RGB", (4, 9)), Image.new("RGB", (9, 4))
    assert pixel_stats(a)[0].sha256 == pixel_stats(a.copy())[0].sha256 != pixel_stats(b)[0].sha256


def test_repeats_are_found() -> None:
    images = [noise(i) for i in range(6)]
    nudged = Image.fromarray(np.clip(np.asarray(images[0]).astype(int) + 1, 0, 255).astype(np.uint8))
    seen = [pixel_stats(i) for i in [*images, nudged, images[3]]]
    thumbs = np.stack([t for _, t in seen])
    assert find_duplicates(thumbs) == [True, False, False, True, False, False, True, True]
    # 3 and 7 are one scene told in two languages; 0 and 6 are two seeds of one prompt
    kin = [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("e", "e"), ("f", "f"), ("a", "a"), ("d", "d in Chinese")]
    assert find_duplicates(thumbs, kin) == [True, False, False, False, False, False, True, False]


def test_a_small_thing_in_another_place_is_no_repeat() -> None:
    def dot(x: int, y: int) -> Image.Image:
        image = Image.new("RGB", (64, 64), "white")
        image.paste((200, 30, 30), (x, y, x + 12, y + 12))
        return image

    seen = [pixel_stats(dot(8, 8)), pixel_stats(dot(40, 40)), pixel_stats(dot(8, 44))]
    assert find_duplicates(np.stack([t for _, t in seen])) == [False] * 3

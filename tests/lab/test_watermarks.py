"""The measures of watermarks, by toys whose answers are known. The libraries themselves are not needed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.lab import watermarks
from t2i.lab.watermarks import BITS, CHANGES, KEY, NEEDED, Watermark, chance, measure, psnr, recognised, table


def noise(seed: int, size: int = 256) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(1, 254, (size, size, 3), dtype=np.uint8))


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda level: level + 1)


def test_psnr_of_a_known_difference() -> None:
    assert psnr(noise(0), brighter(noise(0))) == pytest.approx(20 * math.log10(255))
    assert psnr(noise(0), noise(0)) == math.inf


def test_the_chance_of_a_false_alarm_is_that_of_coins() -> None:
    assert chance() == 2 * (1 + 32 + 32 * 31 / 2) / 2**32 < 1e-6
    throws = np.random.default_rng(0).integers(0, 2, (200_000, BITS))
    assert ((throws == KEY).sum(1) >= NEEDED).sum() == 0


@pytest.mark.parametrize("size", [256, 128])
def test_as_many_bits_as_needed(size: int) -> None:
    for wrong in range(5):
        bits = KEY.copy()
        bits[:wrong] = 1 - bits[:wrong]
        assert recognised(lambda pixels, bits=bits: bits, noise(0, size)) is (wrong <= BITS - NEEDED)  # type: ignore[misc]


def test_changes_are_what_they_are_called() -> None:
    image = noise(1)
    assert CHANGES["none"](image, 0) is image
    assert CHANGES["half"](image, 0).size == (128, 128)
    assert psnr(CHANGES["JPEG 75"](image, 0), image) < 40
    cut = [CHANGES["crop"](image, number) for number in range(3)]
    for picture in cut:
        assert picture.width * picture.height == pytest.approx(0.8 * 256**2, rel=0.01)
    assert len({picture.tobytes() for picture in cut}) == 3


def test_a_mark_in_the_lowest_bit_is_fragile() -> None:
    def mark(image: Image.Image) -> Image.Image:
        return image.point(lambda level: level & 0xFE)

    fragile = Watermark("fragile", mark, lambda image: not (np.asarray(image) & 1).any())
    result = measure(fragile, [noise(seed) for seed in range(3)])
    assert result.found == {"none": 1.0, "JPEG 75": 0.0, "half": 0.0, "crop": 1.0}
    assert (result.alarms, result.tried, result.fit) == (0, 12, False)
    assert result.psnr > 50
    loud = measure(Watermark("loud", mark, lambda image: True), [noise(0)])
    assert loud.alarms == loud.tried == 4 and not loud.fit
    assert table({"fragile": result}).splitlines()[-1].endswith("| 0 of 12 | no |")


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    assert watermarks.main([str(tmp_path)]) == 3

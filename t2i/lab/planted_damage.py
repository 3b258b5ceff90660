"""Twelve ways to make pictures worse, three strengths each: what the gate of `t2i score` has to find.

Six change every picture, six a share of the pictures. Strengths are those of pictures of 256 pixels a side.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

SHARES = (0.25, 0.5, 1.0)
LATTICE_PERIOD = 4  # pixels


@dataclass(frozen=True)
class Damage:
    """strengths: weak, middle, strong. apply: of a picture and a strength, the worse picture."""

    name: str
    strengths: tuple[float, float, float]
    apply: Callable[..., Image.Image]


def blur(image: Image.Image, strength: float) -> Image.Image:
    """A Gaussian blur of this radius in pixels."""
    return image.filter(ImageFilter.GaussianBlur(strength))


def noise(image: Image.Image, strength: float) -> Image.Image:
    """Gaussian noise of this standard deviation, in levels of 255, alone for each pixel and channel."""
    seed = int(np.asarray(image).sum())  # each picture has its own noise, the same in every run
    return _from_levels(_levels(image) + np.random.default_rng(seed).normal(0, strength, (*image.size[::-1], 3)))


def jpeg(image: Image.Image, strength: float) -> Image.Image:
    """Written as JPEG of this quality, and read again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(strength))
    return Image.open(file).convert("RGB")


def lattice(image: Image.Image, strength: float) -> Image.Image:
    """A checkerboard with a period of 4 pixels, brighter and darker by this many levels."""
    y, x = np.indices(image.size[::-1]) // (LATTICE_PERIOD // 2)
    return _from_levels(_levels(image) + strength * np.where((x + y) % 2, 1.0, -1.0)[..., None])


def contrast(image: Image.Image, strength: float) -> Image.Image:
    """Pulled towards the picture's mean brightness."""
    return ImageEnhance.Contrast(image).enhance(strength)


def enlarged(image: Image.Image, strength: float) -> Image.Image:
    """Made smaller by this factor (a box filter), and enlarged again (bicubic)."""
    small = image.resize(
        (max(1, int(image.width / strength)), max(1, int(image.height / strength))), Image.Resampling.BOX
    )
    return small.resize(image.size, Image.Resampling.BICUBIC)


def colour_swap(image: Image.Image) -> Image.Image:
    """Red for blue."""
    r, g, b = image.split()
    return Image.merge("RGB", (b, g, r))


def black(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size)


EVERY_PICTURE = (
    Damage("blur", (1.5, 3.0, 6.0), blur),
    Damage("noise", (6.0, 12.0, 24.0), noise),
    Damage("JPEG", (40.0, 20.0, 10.0), jpeg),
    Damage("lattice", (4.0, 8.0, 16.0), lattice),
    Damage("contrast", (0.85, 0.7, 0.5), contrast),
    Damage("enlarged", (2.0, 4.0, 8.0), enlarged),
)
REPLACED = {"colour swap": colour_swap, "black frames": black}
"""Name -> the picture that stands in for another one, on SHARES of the pictures."""
MOVED = ("shuffled prompts", "one object")
DRAWN_ANEW = ("one step", "no guidance")
"""On SHARES of the pictures, too: the pictures of other prompts, and pictures that the model drew in a worse way."""


def _levels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, np.float64)


def _from_levels(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))

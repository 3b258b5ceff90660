"""Statistics of a picture's pixels, without a network or a prompt.

They catch broken generators: black pictures, burnt ones, blur, the same picture again and again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMB = 32  # pixels a side of a thumbnail
BLANK_STD = 4.0  # standard deviation of luma (0 to 255) below which a picture counts as blank
DUPLICATE_RMS = 3.0  # root mean square difference of two thumbnails (0 to 255) below which they count as equal
BLOCK = 512  # pictures compared with all others at a time
PATCH = 8  # pixels a side of the patches in which noise is measured
FLAT = 0.1  # share of the patches that counts as flat
PERIOD = 8  # pixels: patterns of this period, or of one that divides it, are a lattice


@dataclass(frozen=True)
class PixelStats:
    """Numbers of a picture's pixels. Levels are of 255; luma is that of ITU-R 601.

    sha256: of the size and the pixels, not of the file. sharpness: standard deviation of the Laplacian of luma. noise,
    lattice: see `noise_level` and `lattice_level`. contrast: standard deviation of luma. saturation: mean over pixels
    of the largest minus the smallest channel. clipped: share of pixels that are pure white or black. blank: 1 where
    luma hardly varies, else 0.
    """

    sha256: str
    width: int
    height: int
    sharpness: float
    noise: float
    lattice: float
    contrast: float
    saturation: float
    clipped: float
    blank: float


def pixel_stats(image: Image.Image) -> tuple[PixelStats, NDArray[np.uint8]]:
    """The statistics of an upright RGB image, and its thumbnail (THUMB, THUMB, 3)."""
    assert image.mode == "RGB"
    a = np.asarray(image)  # (H, W, 3) uint8
    digest = hashlib.sha256(f"{a.shape[1]}x{a.shape[0]}".encode())
    digest.update(np.ascontiguousarray(a).data)
    luma = np.asarray(image.convert("L"), dtype=np.float32)
    sharpness = 0.0
    if min(luma.shape) > 2:
        middle = luma[1:-1, 1:-1]
        laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
        sharpness = float(laplacian.std())
    contrast = float(luma.std())
    stats = PixelStats(
        digest.hexdigest(),
        a.shape[1],
        a.shape[0],
        sharpness,
        noise_level(luma),
        lattice_level(luma),
        contrast,
        float((a.max(axis=2) - a.min(axis=2)).mean()),
        float(((a == 255).all(axis=2) | (a == 0).all(axis=2)).mean()),
        float(contrast < BLANK_STD),
    )
    return stats, np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX))


def noise_level(luma: NDArray[np.float32]) -> float:
    """The standard deviation of the noise in the flattest parts of a picture (H, W), in levels.

    The mask of Immerkaer (1996, Fast Noise Variance Estimation, eq. 3) is blind to slopes and, times 1/6, keeps the
    variance of white noise. Edges and texture would count as noise, so only the flattest tenth of the patches of 8
    pixels is read: the tenth percentile of their root mean squares, a little below the true noise. 0 for pictures
    without a whole patch.
    """
    h, w = ((n - 2) // PATCH * PATCH for n in luma.shape)
    if min(h, w) <= 0:
        return 0.0
    rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    response = (rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])[:h, :w] / 6
    power = (response**2).reshape(h // PATCH, PATCH, w // PATCH, PATCH).mean(axis=(1, 3))
    return float(np.sqrt(np.quantile(power, FLAT)))


def lattice_level(luma: NDArray[np.float32]) -> float:
    """The strength of a pattern that repeats every 8 pixels, or every 4 or 2, in levels: a grid of a broken upsampler,
    the blocks of JPEG.

    The steps to the next pixel, and their sizes, are averaged over all pixels of the same place in cells of 8 × 8
    pixels. Without a lattice all 64 places have equal means; the result is the root of the variance between them.
    0 for pictures without a whole cell.
    """
    h, w = (n // PERIOD * PERIOD for n in luma.shape)
    if min(h, w) <= 0:
        return 0.0
    total = 0.0
    for axis in (0, 1):
        step = np.diff(luma, axis=axis, append=luma[-1:] if axis == 0 else luma[:, -1:])[:h, :w]
        for values in (step, np.abs(step)):
            cells = values.reshape(h // PERIOD, PERIOD, w // PERIOD, PERIOD).mean(axis=(0, 2))
            total += float(cells.var())
    return math.sqrt(total)


def find_duplicates(thumbs: NDArray[np.uint8], groups: Sequence[tuple[str, str]] = ()) -> list[bool]:
    """For each picture, whether another one shows the same.

    thumbs: (n, 32, 32, 3), compared at 16 pixels a side. Two are the same if the RMS difference of each of their four
    quarters is below DUPLICATE_RMS. groups: (unit, prompt) of each picture; two prompts of one unit are translations of
    each other, whose pictures may well be equal for equal seeds, and do not count.
    """
    n, half, q = len(thumbs), THUMB // 2, THUMB // 4
    small = thumbs.astype(np.float32).reshape(n, half, 2, half, 2, 3).mean(axis=(2, 4))
    quarters = small.reshape(n, 2, q, 2, q, 3).transpose(1, 3, 0, 2, 4, 5).reshape(4, n, -1)
    norms = (quarters**2).sum(axis=2)
    units, prompts = (np.unique([g[i] for g in groups], return_inverse=True)[1] if groups else None for i in (0, 1))
    duplicate = np.zeros(n, bool)
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        same = np.ones((part.stop - start, n), bool)
        for quarter, norm in zip(quarters, norms, strict=True):
            d = norm[part, None] + norm - 2 * quarter[part] @ quarter.T
            same &= d < DUPLICATE_RMS**2 * quarters.shape[2]
        same[np.arange(part.stop - start), np.arange(start, part.stop)] = False
        if units is not None and prompts is not None:
            same &= ~((units[part, None] == units) & (prompts[part, None] != prompts))
        duplicate[part] = same.any(axis=1)
    return [bool(d) for d in duplicate]

"""Statistics of a picture's pixels, without a network or a prompt.

They catch broken generators: black pictures, burnt ones, blur, the same picture again and again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMB = 16  # pixels a side of a thumbnail
BLANK_STD = 4.0  # standard deviation of luma (0 to 255) below which a picture counts as blank
DUPLICATE_RMS = 3.0  # root mean square difference of two thumbnails (0 to 255) below which they count as equal
BLOCK = 512  # pictures compared with all others at a time


@dataclass(frozen=True)
class PixelStats:
    """sha256: of the size and the pixels, not of the file. sharpness: standard deviation of the Laplacian of luma (0 to
    255). clipped: share of pixels that are pure white or black. blank: 1 where luma hardly varies, else 0."""

    sha256: str
    width: int
    height: int
    sharpness: float
    clipped: float
    blank: float


def pixel_stats(image: Image.Image) -> tuple[PixelStats, NDArray[np.uint8]]:
    """The statistics of an upright RGB image, and its thumbnail (16, 16, 3)."""
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
    clipped = float(((a == 255).all(axis=2) | (a == 0).all(axis=2)).mean())
    blank = float(luma.std() < BLANK_STD)
    thumb = np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX))
    return PixelStats(digest.hexdigest(), a.shape[1], a.shape[0], sharpness, clipped, blank), thumb


def find_duplicates(thumbs: NDArray[np.uint8], groups: Sequence[tuple[str, str]] = ()) -> list[bool]:
    """For each picture, whether another one shows the same.

    thumbs: (n, 16, 16, 3). Two are the same if the RMS difference of each of their four quarters is below
    DUPLICATE_RMS. groups: (unit, prompt) of each picture; two prompts of one unit are translations of each other, whose
    pictures may well be equal for equal seeds, and do not count.
    """
    n, q = len(thumbs), THUMB // 2
    quarters = thumbs.astype(np.float32).reshape(n, 2, q, 2, q, 3).transpose(1, 3, 0, 2, 4, 5).reshape(4, n, -1)
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

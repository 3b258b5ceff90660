"""What can be said about a picture from its pixels alone: no network, no prompt.

They catch what a broken build does: black pictures, burnt ones, mush, the same picture again and again.
Shape legend: H rows, W columns, 8-bit RGB (H, W, 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMB = 16
BLANK = 4.0  # standard deviation of luma, of 255
ROWS = 512  # pictures that are compared with all others at a time
TWINS = 3.0  # root mean square difference of two thumbnails, of 255, below which they show the same


@dataclass(frozen=True)
class Pixels:
    """sha256: of size and pixels, not of the file. sharpness: standard deviation of the Laplacian of luma (0 to 255).
    clipped: share of pixels that are pure white or pure black. blank: 1 where luma hardly varies, else 0."""

    sha256: str
    width: int
    height: int
    sharpness: float
    clipped: float
    blank: float

    def table(self) -> dict[str, str | int | float]:
        return asdict(self)


def look(image: Image.Image) -> tuple[Pixels, NDArray[np.uint8]]:
    """The numbers of an upright RGB image and its thumbnail (16, 16, 3)."""
    assert image.mode == "RGB"
    a = np.asarray(image)
    digest = hashlib.sha256(f"{a.shape[1]}x{a.shape[0]}".encode())
    digest.update(np.ascontiguousarray(a).data)
    luma = np.asarray(image.convert("L"), dtype=np.float32)
    edge = 0.0
    if min(luma.shape) > 2:
        middle = luma[1:-1, 1:-1]
        laplace = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
        edge = float(laplace.std())
    ends = ((a == 255).all(axis=2) | (a == 0).all(axis=2)).mean()
    thumb = np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX))
    blank = float(luma.std() < BLANK)
    return Pixels(digest.hexdigest(), a.shape[1], a.shape[0], edge, float(ends), blank), thumb


def twins(thumbs: NDArray[np.uint8], kin: Sequence[tuple[str, str]] = ()) -> list[bool]:
    """For each picture, whether another shows the same: thumbnails (n, 16, 16, 3) that differ by less than TWINS in
    each of their quarters' root mean square.

    kin: (unit, prompt) of each. Two prompts of one unit say the same in two languages; from equal seeds they may well
    give equal pictures, which is no fault.
    """
    n, q = len(thumbs), THUMB // 2
    flat = thumbs.astype(np.float32).reshape(n, 2, q, 2, q, 3).transpose(1, 3, 0, 2, 4, 5).reshape(4, n, -1)
    norms = (flat**2).sum(axis=2)
    units, prompts = (np.unique([k[i] for k in kin], return_inverse=True)[1] if kin else None for i in (0, 1))
    same = np.zeros(n, bool)
    for start in range(0, n, ROWS):
        part = slice(start, min(start + ROWS, n))
        near = np.ones((part.stop - start, n), bool)
        for quarter, norm in zip(flat, norms, strict=True):
            d = norm[part, None] + norm - 2 * quarter[part] @ quarter.T
            near &= d < TWINS**2 * flat.shape[2]
        near[np.arange(part.stop - start), np.arange(start, part.stop)] = False
        if units is not None and prompts is not None:
            near &= ~((units[part, None] == units) & (prompts[part, None] != prompts))
        same[part] = near.any(axis=1)
    return [bool(s) for s in same]

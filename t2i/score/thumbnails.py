"""Thumbnails: what a score keeps of a picture, so that a later one can be compared with it."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from t2i.score.pixel_stats import THUMB

if TYPE_CHECKING:
    from t2i.score.metrics import PictureRow

OTHER = 0.02  # 1 - SSIM of two thumbnails above which they show two pictures; bfloat16 changes it by .005 at most
MAX_TEXT = 8192  # characters; a lossless WebP of 32 x 32 pixels has at most about 4,300


def encode_thumb(thumb: NDArray[np.uint8]) -> str:
    """(32, 32, 3) -> a lossless WebP in base64."""
    file = io.BytesIO()
    Image.fromarray(thumb).save(file, "WEBP", lossless=True)
    return base64.b64encode(file.getvalue()).decode()


def decode_thumb(text: str) -> NDArray[np.uint8]:
    """(32, 32, 3). Raises ValueError for anything that `encode_thumb` does not write."""
    if len(text) > MAX_TEXT:
        raise ValueError("a thumbnail is too long")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["WEBP"]) as image:
            if image.size != (THUMB, THUMB):
                raise ValueError(f"a thumbnail has {image.width} x {image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except (binascii.Error, UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError("a thumbnail is no picture") from error


def thumb_distances(pairs: Sequence[tuple[PictureRow, PictureRow]]) -> list[float]:
    """1 - SSIM of the thumbnails of each pair, 0 for equal ones."""
    import torch

    from t2i.score.pixel_metrics import ssim

    out = [0.0] * len(pairs)
    differ = [i for i, (a, b) in enumerate(pairs) if a.thumb != b.thumb]
    if differ:
        sides = (np.stack([decode_thumb(pairs[i][side].thumb) for i in differ]) for side in (0, 1))
        before, after = (torch.from_numpy(side).permute(0, 3, 1, 2).float() / 127.5 - 1 for side in sides)
        for i, distance in zip(differ, (1 - ssim(before, after)).clamp(min=0), strict=True):
            out[i] = float(distance)
    return out

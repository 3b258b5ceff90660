"""Between our tensors, (3, H, W) in [-1, 1], and the PIL images that diffusers' pipelines take."""

from __future__ import annotations

from PIL.Image import Image
from torch import Tensor

from t2i.media.images import resize, to_pil


def fitted(image: Tensor, width: int, height: int) -> Image:
    """The largest part in the middle of a picture that has this aspect ratio, at this size."""
    tall, wide = image.shape[1:]
    factor = min(wide / width, tall / height)
    w, h = min(wide, round(width * factor)), min(tall, round(height * factor))
    top, left = (tall - h) // 2, (wide - w) // 2
    return to_pil(resize(image[None, :, top : top + h, left : left + w].float(), height, width)[0])

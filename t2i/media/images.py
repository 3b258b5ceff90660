"""Pictures between tensors and files. Only here do pixels change their range.

In the engine a picture is a float32 tensor (3, H, W) or (B, 3, H, W), RGB in [-1, 1]. In a file it is PNG, JPEG or WebP
with 8 bits a channel.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from t2i.errors import InternalError, UsageError
from t2i.files import atomic_file
from t2i.media.image_file import FORMATS, WHITE, ImageFile, pixel_digest
from t2i.media.metadata import metadata_for
from t2i.media.record import Record

if TYPE_CHECKING:
    from torch import Tensor


def load_image(path: Path | str, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A picture file as an upright RGB image, see `decode`. Raises InputError (code `image`)."""
    return ImageFile.read(path).decode(background).image


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What a picture file says about itself, see `metadata`. Raises InputError (code `image`)."""
    return ImageFile.read(path).metadata()


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) float32 of an RGB image: 0 becomes -1, 255 becomes 1."""
    import numpy as np
    import torch

    assert image.mode == "RGB"
    pixels = np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1.0)


def to_pil(pixels: Tensor) -> Image.Image:
    """The RGB image of a tensor (3, H, W) or (1, 3, H, W), clamped to [-1, 1] and rounded to 256 levels.

    Raises InternalError for values that are not finite.
    """
    import torch

    if pixels.ndim == 4:
        assert pixels.shape[0] == 1
        pixels = pixels[0]
    assert pixels.ndim == 3 and pixels.shape[0] == 3
    values = pixels.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise InternalError("the picture holds values that are not numbers and was not saved.")
    levels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, height, width) in [-1, 1].

    Shrinking by whole factors averages areas; everything else is bicubic with antialiasing.
    """
    import torch.nn.functional as F

    h, w = pixels.shape[-2:]
    if (h, w) == (height, width):
        return pixels
    if h % height == 0 and w % width == 0:
        return F.interpolate(pixels, size=(height, width), mode="area")
    return F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)


def lanczos(pixels: Tensor, height: int, width: int) -> Tensor:
    """(3, H, W) -> (3, height, width) by Pillow's Lanczos filter, in float32, not clamped to [-1, 1]."""
    import numpy as np
    import torch

    planes = [
        Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.LANCZOS)
        for plane in pixels.detach().to("cpu", torch.float32).contiguous()
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))


def check_suffix(path: Path) -> str:
    """The format for the ending of `path`. Raises UsageError for an ending that cannot be written."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path.name!r} does not end in .png, .jpg or .webp.", "Name one of these.") from None


def save_image(
    image: Image.Image,
    path: Path,
    record: Record | None = None,
    *,
    exclusive: bool = False,
    icc: bytes | None = None,
) -> None:
    """Write `image` to `path`, completely or not at all, with its record as metadata.

    The ending of `path` gives the format. exclusive: raise FileExistsError if the file exists. icc: colour profile.
    Raises UsageError (ending), InputError (code `output`).
    """
    kind = check_suffix(path)
    data = io.BytesIO()
    pixels = pixel_digest(image) if kind == "PNG" and record is not None else None
    image.save(data, format=kind, **metadata_for(kind, record, pixels), **({"icc_profile": icc} if icc else {}))
    whole: bytes | memoryview = data.getbuffer()
    if record is not None and record.signer is not None:  # last: the signature covers all other bytes
        whole = record.signer.sign(data.getvalue(), kind, record)
    with atomic_file(path, exclusive=exclusive) as file:
        file.write(whole)


def save_animation(
    images: Sequence[Image.Image], path: Path, record: Record | None = None, *, milliseconds: int = 120
) -> None:
    """Write the pictures as an endless animation, forth and back; `path` ends in .webp or .gif.

    milliseconds: duration of a frame. A GIF has 256 colours a frame, and its only metadata is a comment.
    Raises UsageError (ending), InputError (code `output`).
    """
    kind = {".webp": "WEBP", ".gif": "GIF"}.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path.name!r} does not end in .webp or .gif.", "Name one of these.")
    frames = [*images, *images[-2:0:-1]]
    tags: dict[str, Any] = (
        metadata_for(kind, record) if kind == "WEBP" else {"comment": record.source_uri if record else ""}
    )
    data = io.BytesIO()
    frames[0].save(data, format=kind, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **tags)
    with atomic_file(path) as file:
        file.write(data.getbuffer())

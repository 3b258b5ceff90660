"""The only place where pixels change range or touch a file.

Inside the engine a picture is float32 in [-1, 1], (3, H, W) or (B, 3, H, W), RGB.  Outside it is a PNG, JPEG
or WebP file of 8 bits a channel.  What a file says about itself (settings, prompt, that a model made it) is
in ``marks.py``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from t2i.errors import InputError, InternalError, UsageError
from t2i.files import atomic_file, explain_os_error
from t2i.media.record import Record, read_marks, save_options

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMATS",
    "Picture",
    "Record",
    "check_suffix",
    "lanczos",
    "load_image",
    "load_picture",
    "read_metadata",
    "resize",
    "save_animation",
    "save_image",
    "to_pil",
    "to_tensor",
]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
READABLE = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
MAX_FILE = 512 << 20


@dataclass(frozen=True)
class Picture:
    """A picture file, read. image: upright RGB; alpha: its transparency (L, 255 = opaque), or None where it has none;
    frames: how many it holds, of which the first was taken; icc: the colour profile of an RGB file, to be written
    again, or None."""

    image: Image.Image
    alpha: Image.Image | None
    frames: int
    icc: bytes | None


def load_image(path: Path | str, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """A picture file as an upright RGB image: what :func:`load_picture` finds in it."""
    return load_picture(path, background).image


def load_picture(path: Path | str, background: tuple[int, int, int] = (255, 255, 255)) -> Picture:
    """A picture file, read.

    PNG, JPEG and WebP only, at most 64 megapixels.  The camera's orientation is applied, transparent parts
    show ``background`` (never the colour hidden under them), 16-bit grey is scaled to 8 bits, CMYK converted
    by its colour profile; an animation gives its first frame.  Raises InputError (code ``image``) naming the
    file.
    """
    path = Path(path)
    image = _open(_bytes(path), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if image.format == "PNG":  # decoding alone does not look at the checksums
                with Image.open(io.BytesIO(_bytes(path)), formats=["PNG"]) as twin:
                    twin.verify()
            frames = int(getattr(image, "n_frames", 1))
            image.load()
            icc = image.info.get("icc_profile")
            upright: Image.Image = ImageOps.exif_transpose(image)
            return Picture(
                _to_rgb(upright, background, icc),
                _alpha(upright),
                frames,
                icc if isinstance(icc, bytes) and upright.mode in ("RGB", "RGBA", "P", "PA") else None,
            )
    except Exception as error:  # a decoder fed with rubbish raises nearly anything
        raise _unreadable(path, "it is damaged or cut short") from error


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Everything a picture says about itself, without decoding its pixels.

    Keys: format, width, height, t2i (our record or None), parameters (the line other tools read, or None),
    digital_source_type (short name, or None), ai_system (or None), damaged (our record cannot be read).  Raises
    InputError (code ``image``).
    """
    path = Path(path)
    image = _open(_bytes(path), path)
    out: dict[str, Any] = {"format": image.format, "width": image.width, "height": image.height}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {**out, **read_marks(image)}
    except Exception as error:
        raise _unreadable(path, "its metadata is damaged") from error


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [-1, 1] of an RGB image: 0 is -1, 255 is 1."""
    import numpy as np
    import torch

    assert image.mode == "RGB"
    pixels = np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1.0)


def to_pil(pixels: Tensor) -> Image.Image:
    """An RGB image of (3, H, W) or (1, 3, H, W) values, cut to [-1, 1] and rounded to the nearest of 256
    levels.

    Raises InternalError for values that are not finite: such a picture must not be saved.
    """
    import torch

    if pixels.ndim == 4:
        assert pixels.shape[0] == 1
        pixels = pixels[0]
    assert pixels.ndim == 3 and pixels.shape[0] == 3
    values = pixels.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise InternalError("the picture holds values that are not numbers and was not saved.", "Try --dtype float32.")
    levels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, height, width) in [-1, 1]: by area where it shrinks by a whole number, else by bicubic
    filtering without aliasing."""
    import torch.nn.functional as F

    h, w = pixels.shape[-2:]
    if (h, w) == (height, width):
        return pixels
    if h % height == 0 and w % width == 0:
        return F.interpolate(pixels, size=(height, width), mode="area")
    return F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)


def lanczos(pixels: Tensor, height: int, width: int) -> Tensor:
    """(3, H, W) -> (3, height, width) by Pillow's Lanczos filter, in floating point, not cut to [-1, 1]."""
    import numpy as np
    import torch

    planes = [
        Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.LANCZOS)
        for plane in pixels.detach().to("cpu", torch.float32).contiguous()
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))


def read_file(path: Path) -> tuple[bytes, str]:
    """A picture file as it is, and its format: PNG, JPEG or WEBP. Raises InputError (code ``image``)."""
    data = _bytes(path)
    return data, str(_open(data, path).format)


def check_suffix(path: Path) -> str:
    """The format that ``path`` asks for by its ending. Raises UsageError for an ending we do not write."""
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
    """Write ``image`` with its marks, and a colour profile, to ``path``, whole or not at all.

    The ending of ``path`` chooses the format.  With ``exclusive`` an existing file raises FileExistsError.
    Raises UsageError (ending), InputError (code ``output``).
    """
    kind = check_suffix(path)
    data = io.BytesIO()
    image.save(data, format=kind, **save_options(kind, record), **({"icc_profile": icc} if icc else {}))
    whole: bytes | memoryview = data.getbuffer()
    if record is not None and record.seal is not None:  # the signature covers every other byte: it comes last
        whole = record.seal.apply(data.getvalue(), kind, record)
    with atomic_file(path, exclusive=exclusive) as file:
        file.write(whole)


def save_animation(
    images: Sequence[Image.Image], path: Path, record: Record | None = None, *, milliseconds: int = 120
) -> None:
    """Write the pictures as one that moves, forth and back without end; ``path`` ends in .webp or .gif.

    A GIF has 256 colours a frame and room for a comment only.  Raises UsageError (ending), InputError (code
    ``output``).
    """
    kind = {".webp": "WEBP", ".gif": "GIF"}.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path.name!r} does not end in .webp or .gif.", "Name one of these.")
    frames = [*images, *images[-2:0:-1]]
    marks = save_options(kind, record) if kind == "WEBP" else {"comment": record.source_uri if record else ""}
    data = io.BytesIO()
    frames[0].save(data, format=kind, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **marks)
    with atomic_file(path) as file:
        file.write(data.getbuffer())


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise _unreadable(path, "the file is too large")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else "no such file"
        raise InputError(f"cannot read {path}: {what}.", code="image") from error


def _open(data: bytes, path: Path) -> Image.Image:
    """Look at the head of a picture: format and size are checked before any pixel is decoded."""
    if not data:
        raise _unreadable(path, "it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns where this module refuses
            image = Image.open(io.BytesIO(data), formats=READABLE)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not a PNG, JPEG or WebP picture.", "Convert it to one of these.", "image"
        ) from error
    except Exception as error:
        raise _unreadable(path, "it is damaged or cut short") from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path)
    return image


def _alpha(image: Image.Image) -> Image.Image | None:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
        return None if alpha.getextrema() == (255, 255) else alpha
    return None


def _to_rgb(image: Image.Image, background: tuple[int, int, int], icc: bytes | None = None) -> Image.Image:
    if image.mode == "CMYK" and icc:
        from PIL import ImageCms

        try:
            inks, screen = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, screen, outputMode="RGB")
            assert converted is not None  # only a conversion in place gives nothing
            return converted
        except (OSError, ImageCms.PyCMSError):  # a profile that is none, or another ink's
            return image.convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: 65535 / 257 = 255 exactly
        import numpy as np

        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(((wide.clip(0, 65535) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        canvas.alpha_composite(rgba)
        return canvas.convert("RGB")
    return image.convert("RGB")


def _unreadable(path: Path, what: str) -> InputError:
    return InputError(f"cannot read the picture {path}: {what}.", code="image")


def _too_large(path: Path) -> InputError:
    return InputError(f"the picture {path} has more than 64 megapixels.", "Reduce it first.", "image")

"""Picture files in memory: format and size are checked first, then pixels and metadata are read from the same bytes."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from t2i.errors import InputError
from t2i.files import explain_os_error, read_bytes
from t2i.media.metadata import read_tags
from t2i.media.parts import format_of

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Format by file ending."""

READABLE = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
WHITE = (255, 255, 255)
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class LoadedImage:
    """A decoded picture.

    image: upright, RGB. alpha: its transparency (mode L, 255 = opaque), None if it has none. frames: number of frames
    in the file, of which this is the first. icc: colour profile of an RGB file, None if it has none.
    """

    image: Image.Image
    alpha: Image.Image | None
    frames: int
    icc: bytes | None


@dataclass(frozen=True)
class ImageFile:
    """The bytes of a picture file whose head is valid. name: for error messages."""

    name: str
    data: bytes
    format: str  # one of READABLE
    size: tuple[int, int]  # (width, height) as stored, before the camera's orientation is applied

    @classmethod
    def read(cls, path: Path | str) -> ImageFile:
        """Read a file. Raises InputError (code `image`): not there, too large, not a PNG, JPEG or WebP picture."""
        return cls.of(read_file(path), str(path))

    @classmethod
    def read_damaged(cls, path: Path | str) -> tuple[ImageFile, InputError | None]:
        """A file with the first bytes of a picture, and why it cannot be read further, if so; its size is then (0, 0).

        Raises InputError (code `image`): not there, too large a file, or nothing like a PNG, JPEG or WebP picture.
        """
        data = read_file(path)
        try:
            return cls.of(data, str(path)), None
        except InputError as error:
            kind = format_of(data)
            if kind is None:
                raise
            return cls(str(path), data, kind, (0, 0)), error

    @classmethod
    def of(cls, data: bytes, name: str) -> ImageFile:
        """The picture in `data`. Raises InputError (code `image`)."""
        image = _open(data, name)
        return cls(name, data, str(image.format), image.size)

    def decode(self, background: tuple[int, int, int] = WHITE, *, verify: bool = True) -> LoadedImage:
        """The pixels of the first frame, upright, RGB.

        Transparent parts show `background`, never the colour hidden under them. 16-bit grey is scaled to 8 bits. CMYK
        is converted by its colour profile. verify: also check the checksums of a PNG, which decoding alone does not.
        Raises InputError (code `image`).
        """
        image = _open(self.data, self.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if verify:
                    self._check_sums()
                frames = int(getattr(image, "n_frames", 1))
                image.load()
                icc = image.info.get("icc_profile")
                upright: Image.Image = ImageOps.exif_transpose(image)
                keeps_icc = isinstance(icc, bytes) and upright.mode in ("RGB", "RGBA", "P", "PA")
                return LoadedImage(
                    _to_rgb(upright, background, icc), _alpha(upright), frames, icc if keeps_icc else None
                )
        except Exception as error:  # a decoder that is fed garbage raises nearly anything
            raise _unreadable(self.name, "it is damaged or cut short") from error

    def metadata(self) -> dict[str, Any]:
        """What the file says about itself: format, width, height and the keys of `read_tags`.

        No pixel is decoded, and damage is not looked for.
        """
        width, height = self.size
        return {"format": self.format, "width": width, "height": height, **read_tags(self.data, self.format)}

    def is_intact(self) -> bool:
        """False if the checksums of a PNG are wrong. Nothing is decoded."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._check_sums()
        except Exception:
            return False
        return True

    def _check_sums(self) -> None:
        if self.format == "PNG":
            with Image.open(io.BytesIO(self.data), formats=["PNG"]) as image:
                image.verify()


def read_file(path: Path | str) -> bytes:
    """The bytes of a file. Raises InputError (code `image`)."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {explain_os_error(error)}.", code="image") from error


def pixel_digest(image: Image.Image, alpha: Image.Image | None = None) -> str:
    """sha256 of size, pixels and transparency: equal for equal pictures, in whatever file."""
    data = repr(image.size).encode() + image.tobytes() + (alpha.tobytes() if alpha else b"")
    return hashlib.sha256(data).hexdigest()


def _open(data: bytes, name: str) -> Image.Image:
    """Parse the head of a picture. Format and size are checked before any pixel is decoded."""
    if not data:
        raise _unreadable(name, "it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns where this function raises
            image = Image.open(io.BytesIO(data), formats=READABLE)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except Image.UnidentifiedImageError as error:
        if format_of(data) is not None:
            raise _unreadable(name, "it is damaged or cut short") from error
        hint = "Convert it to one of these."
        raise InputError(f"{name} is not a PNG, JPEG or WebP picture.", hint, "image") from error
    except Exception as error:
        raise _unreadable(name, "it is damaged or cut short") from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(name)
    return image


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in WITH_ALPHA or "transparency" in image.info


def _alpha(image: Image.Image) -> Image.Image | None:
    if not _has_alpha(image):
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _to_rgb(image: Image.Image, background: tuple[int, int, int], icc: bytes | None) -> Image.Image:
    if image.mode == "CMYK" and icc:
        from PIL import ImageCms

        try:
            inks, screen = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, screen, outputMode="RGB")
            assert converted is not None  # None only for a conversion in place
            return converted
        except (OSError, ImageCms.PyCMSError):  # no profile, or not one for CMYK
            return image.convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: 65535 / 257 = 255 exactly
        import numpy as np

        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(((wide.clip(0, 65535) + 128) // 257).astype(np.uint8)).convert("RGB")
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        canvas.alpha_composite(rgba)
        return canvas.convert("RGB")
    return image.convert("RGB")


def _unreadable(name: str, what: str) -> InputError:
    return InputError(f"cannot read the picture {name}: {what}.", code="image")


def _too_many_pixels(name: str) -> InputError:
    return InputError(f"the picture {name} has more than 64 megapixels.", "Reduce it first.", "image")

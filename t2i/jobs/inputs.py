"""Pictures and masks that a command is given: read, checked and joined before any model is loaded. No torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.jobs.reporter import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.media.c2pa import Signer
    from t2i.media.image_file import LoadedImage

MODES = ("replace", "keep")
SIDES = ("left", "top", "right", "bottom")
MAX_PIXELS = 64_000_000  # of a picture to be made; of one that is read, too


@dataclass(frozen=True)
class SourceImage:
    """A picture that was given: its path, its pixels, what it says about itself, and a name for its pixels."""

    path: Path
    picture: LoadedImage
    marks: dict[str, Any]

    @property
    def image(self) -> Image:
        """Upright RGB."""
        return self.picture.image

    @cached_property
    def digest(self) -> str:
        """sha256 of size, pixels and transparency: equal for equal pictures, in whatever file."""
        alpha = self.picture.alpha
        data = repr(self.image.size).encode() + self.image.tobytes() + (alpha.tobytes() if alpha else b"")
        return hashlib.sha256(data).hexdigest()

    @cached_property
    def tensor(self) -> Tensor:
        """(3, H, W) in [-1, 1]."""
        from t2i.media.images import to_tensor

        return to_tensor(self.image)

    def file(self) -> tuple[bytes, str]:
        """The file itself and its format, as Content Credentials take it. Raises InputError where it is gone."""
        from t2i.media.image_file import ImageFile

        file = ImageFile.read(self.path)
        return file.data, file.format

    def signer(self, signer: Signer | None) -> Signer | None:
        """The signer, if there is one, for a picture that is made from this one."""
        return None if signer is None else signer.with_parent(*self.file())


def read_source(reporter: Reporter, path: Path, strict: bool = False) -> SourceImage:
    """Read a picture. Of an animation the first frame is taken, with a warning, or none under ``strict``.

    Raises InputError (code ``image``).
    """
    from t2i.media.image_file import ImageFile

    file = ImageFile.read(path)
    picture = file.decode()
    _check_frames(reporter, path, picture, strict)
    return SourceImage(path, picture, file.metadata())


def read_square(reporter: Reporter, path: Path) -> SourceImage:
    """Read a picture of which the model sees the square in the middle; warn where that is not all of it."""
    source = read_source(reporter, path)
    if source.image.width != source.image.height:
        size = f"{source.image.width}x{source.image.height}"
        reporter.warn(f"{path} is {size}; the model sees the square in its middle")
    return source


def _check_frames(reporter: Reporter, path: Path, picture: LoadedImage, strict: bool) -> None:
    if picture.frames > 1:
        what = f"{path} is an animation of {picture.frames} frames"
        if strict:
            raise InputError(f"{what}.", "Save one of them as a picture.", "image")
        reporter.warn(f"{what}; the first is taken")


def read_mask(
    reporter: Reporter, path: Path, size: tuple[int, int], mode: str = "replace", strict: bool = False
) -> Image:
    """A mask file as L, 255 = repaint. Raises UsageError for one of another size, InputError for a damaged one, and
    under ``strict`` for an animation.

    Transparent parts count as black. ``mode`` keep: what is white is kept.
    """
    from PIL import ImageChops

    from t2i.media.image_file import ImageFile

    picture = ImageFile.read(path).decode(background=(0, 0, 0))
    _check_frames(reporter, path, picture, strict)
    mask = picture.image.convert("L")
    if mask.size != size:
        what = f"the mask {path} is {mask.width}x{mask.height}, and the picture is {size[0]}x{size[1]}."
        raise UsageError(what, "Make the mask as large as the picture.")
    return ImageChops.invert(mask) if mode == "keep" else mask


def parse_box(text: str) -> tuple[int, int, int, int]:
    """``x,y,w,h`` in pixels. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text, re.ASCII)
    numbers = [int(number) for number in found.groups()] if found else [0, 0, 0, 0]
    if not numbers[2] or not numbers[3]:
        raise UsageError(
            f"--box {text!r} is not a box.",
            "Write x,y,width,height in pixels from the top left corner, as in 40,30,128,96.",
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def parse_outpaint(text: str, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """``left=50%,right=128`` as pixels (left, top, right, bottom): percent of the width or the height; a number alone,
    or ``all=``, is for every side. Raises UsageError."""
    width, height = size
    margins, said = dict.fromkeys(SIDES, 0), set[str]()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(?:(\w+)\s*=)?\s*(\d{1,9}(?:\.\d+)?)\s*(%|px)?\s*", part, re.ASCII)
        name = found[1] or "all" if found else ""
        if not found or name not in (*SIDES, "all"):
            raise UsageError(f"--outpaint {text!r} cannot be read.", "Write left=50%,right=128, or 25% for all sides.")
        if name in said:
            raise UsageError(f"--outpaint {text!r} says {name} twice.", "Say each side once.")
        said.add(name)
        for side in SIDES if name == "all" else (name,):
            whole = width if side in ("left", "right") else height
            margins[side] = round(float(found[2]) / 100 * whole if found[3] == "%" else float(found[2]))
    left, top, right, bottom = (margins[side] for side in SIDES)
    if not any((left, top, right, bottom)):
        raise UsageError(f"--outpaint {text!r} adds nothing.", "Write left=50%,right=128.")
    if (width + left + right) * (height + top + bottom) > MAX_PIXELS:
        raise UsageError(f"--outpaint {text!r} makes a picture of more than 64 megapixels.", "Add less.")
    return left, top, right, bottom


def boxes_mask(size: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> Image:
    """Rectangles (x, y, w, h) as a mask. Raises UsageError for one that lies outside of the picture."""
    from PIL import Image

    mask = Image.new("L", size, 0)
    for x, y, w, h in boxes:
        if x >= size[0] or y >= size[1]:
            raise UsageError(f"--box {x},{y},{w},{h} lies outside of the picture, which is {size[0]}x{size[1]}.")
        mask.paste(255, (x, y, min(x + w, size[0]), min(y + h, size[1])))
    return mask


def check_mask(mask: Image) -> None:
    """Raise UsageError unless the mask leaves something to paint and something to keep."""
    low, high = mask.getextrema()
    if high < 128:  # type: ignore[operator]  # one channel: two numbers
        raise UsageError("the mask is blank: there is nothing to repaint.", "White is what is repainted.")
    if low >= 128:  # type: ignore[operator]
        what = "the mask covers the whole picture: there is nothing to keep."
        raise UsageError(what, 'White is what is repainted; to draw all of it again: t2i sample "…" --init picture.png')


def expand_paths(given: list[str]) -> list[tuple[Path, Path]]:
    """(file, its path below where it was found) of every picture named: files, folders with all below them, and
    patterns that the shell has left as they are. Raises InputError where nothing is there."""
    import glob

    from t2i.media.image_file import FORMATS

    found: list[tuple[Path, Path]] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in FORMATS and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no PNG, JPEG or WebP picture.", code="image")
            found += [(p, p.relative_to(path)) for p in inside]
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(p) for p in glob.glob(text, recursive=True))
            if not matches:
                raise InputError(f"no file is called like {text}.", code="image")
            found += [(p, Path(p.name)) for p in matches if p.is_file()]
        else:
            found.append((path, Path(path.name)))
    return list(dict.fromkeys(found))

"""What is to be repainted: mask files, boxes, transparency and new margins, joined to one mask. Imports no torch.

Masks are Pillow images of mode L; 255 is repainted, 0 is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t2i.errors import T2IError, UsageError
from t2i.jobs.inputs import MAX_PIXELS, SourceImage, check_frames
from t2i.jobs.output_paths import make_folder, variants
from t2i.jobs.reporter import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MODES = ("replace", "keep")
MAX_GROWTH = 8  # sides of the picture that --outpaint may add: each takes several squares to draw
GREY = 24  # channels of a grey pixel differ by at most so much, of 255: JPEG colours the edges of a mask a little
MAX_COLOURED = 0.01
SIDES = ("left", "top", "right", "bottom")


def read_mask(
    reporter: Reporter, path: Path, size: tuple[int, int], mode: str = "replace", strict: bool = False
) -> Image:
    """A mask file as L, 255 = repaint. mode: "replace" repaints white, "keep" keeps it. Transparent parts are black.

    Raises UsageError for a mask that is not as large as `size` or is in colour, InputError (code `image`) for a
    damaged one, and under `strict` for an animation.
    """
    from PIL import ImageChops

    from t2i.media.image_file import ImageFile

    picture = ImageFile.read(path).decode(background=(0, 0, 0))
    check_frames(reporter, path, picture, strict)
    mask = picture.image.convert("L")
    if mask.size != size:
        what = f"the mask {path} is {mask.width}x{mask.height}, and the picture is {size[0]}x{size[1]}."
        raise UsageError(what, "Make the mask as large as the picture.")
    if (share := coloured(picture.image)) > MAX_COLOURED:
        what = f"{path} is no mask: {share:.0%} of it is in colour."
        raise UsageError(what, "A mask is black and white; white is what is repainted.")
    return ImageChops.invert(mask) if mode == "keep" else mask


def coloured(image: Image) -> float:
    """Share of pixels whose channels differ by more than `GREY`."""
    from PIL import ImageChops

    red, green, blue = image.convert("RGB").split()
    spread = ImageChops.subtract(
        ImageChops.lighter(ImageChops.lighter(red, green), blue), ImageChops.darker(ImageChops.darker(red, green), blue)
    )
    return sum(spread.histogram()[GREY + 1 :]) / (image.width * image.height)


def parse_box(text: str) -> tuple[int, int, int, int]:
    """`x,y,w,h` in pixels. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text, re.ASCII)
    numbers = [int(number) for number in found.groups()] if found else [0, 0, 0, 0]
    if not numbers[2] or not numbers[3]:
        raise UsageError(
            f"--box {text!r} is not a box.",
            "Write x,y,width,height in pixels from the top left corner, as in 40,30,128,96.",
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def parse_outpaint(text: str, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """`left=50%,right=128` as pixels (left, top, right, bottom). Percent are of the width or the height; a number
    alone, or `all=`, is for every side. Raises UsageError."""
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
    if max((left + right) / width, (top + bottom) / height) > MAX_GROWTH:
        what = f"--outpaint {text!r} adds more than {MAX_GROWTH} times the picture's own side."
        raise UsageError(what, "Add less, and outpaint the result again.")
    if (width + left + right) * (height + top + bottom) > MAX_PIXELS:
        raise UsageError(f"--outpaint {text!r} makes a picture of more than 64 megapixels.", "Add less.")
    return left, top, right, bottom


def boxes_mask(reporter: Reporter, size: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> Image:
    """Rectangles (x, y, w, h) as a mask: L, 255 inside. Warns of one that is partly outside of the picture, raises
    UsageError for one that is outside."""
    from PIL import Image

    mask = Image.new("L", size, 0)
    for x, y, w, h in boxes:
        if x >= size[0] or y >= size[1]:
            raise UsageError(f"--box {x},{y},{w},{h} lies outside of the picture, which is {size[0]}x{size[1]}.")
        right, bottom = min(x + w, size[0]), min(y + h, size[1])
        if (right, bottom) != (x + w, y + h):
            inside = f"{x},{y},{right - x},{bottom - y}"
            reporter.warn(
                f"--box {x},{y},{w},{h} reaches beyond the {size[0]}x{size[1]} picture; {inside} is repainted"
            )
        mask.paste(255, (x, y, right, bottom))
    return mask


def check_mask(mask: Image) -> None:
    """Raise UsageError unless the mask leaves something to paint and something to keep."""
    low, high = mask.getextrema()
    if high < 128:  # type: ignore[operator]  # one channel: two numbers
        raise UsageError("the mask is blank: there is nothing to repaint.", "White is what is repainted.")
    if low >= 128:  # type: ignore[operator]
        what = "the mask covers the whole picture: there is nothing to keep."
        raise UsageError(what, 'White is what is repainted; to draw all of it again: t2i sample "…" --init picture.png')


def join_masks(
    reporter: Reporter,
    source: SourceImage,
    mask: Image | None,
    boxes: list[tuple[int, int, int, int]],
    outpaint: str | None,
) -> tuple[Image | None, tuple[int, int, int, int]]:
    """Join everything that says what to repaint; without mask and boxes, the picture's own transparency counts.

    -> (mask as large as the picture with its margins, or None where nothing says anything; margins in pixels: left,
    top, right, bottom). Raises UsageError.
    """
    from PIL import Image as Pillow
    from PIL import ImageChops, ImageOps

    size, parts = source.image.size, []
    if mask is not None:
        parts.append(mask)
    if boxes:
        parts.append(boxes_mask(reporter, size, boxes))
    if source.picture.alpha is not None and not parts:
        parts.append(ImageChops.invert(source.picture.alpha))
    margins = parse_outpaint(outpaint, size) if outpaint is not None else (0, 0, 0, 0)
    if not parts and not any(margins):
        return None, margins
    joined = parts[0] if parts else Pillow.new("L", size, 0)
    for part in parts[1:]:
        joined = ImageChops.lighter(joined, part)
    return ImageOps.expand(joined, border=margins, fill=255), margins


def write_mask(mask: Tensor, path: Path, overwrite: bool = False, inputs: Sequence[Path] = ()) -> Path:
    """Save a mask (1, H, W) of 0 and 1, black and white; -> its file.

    That is the first of `path` and its variants `-2`, `-3` … that is free or holds this mask already; with
    `overwrite`, the first that is none of `inputs`. Raises InputError (code `output`).
    """
    from t2i.media.images import save_image, to_pil

    make_folder(path.parent)
    image, kept = to_pil(mask.expand(3, -1, -1) * 2 - 1), {file.resolve() for file in inputs}
    for file in variants(path):
        if overwrite and file.resolve() not in kept:
            save_image(image, file)
            return file
        if _holds(file, image):
            return file
        try:
            save_image(image, file, exclusive=True)
            return file
        except FileExistsError:
            continue
    raise AssertionError("variants never end")


def _holds(path: Path, image: Image) -> bool:
    """Whether the file at `path` is a picture with these pixels."""
    from t2i.media.images import load_image

    try:
        there = load_image(path)
    except T2IError:
        return False
    return there.size == image.size and there.tobytes() == image.tobytes()


def mask_digest(mask: Image) -> str:
    """sha256 of size and values."""
    return hashlib.sha256(repr(mask.size).encode() + mask.tobytes()).hexdigest()

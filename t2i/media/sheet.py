"""Contact sheets: pictures in a grid, with labels and captions in any language."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw

from t2i.media.fonts import Font, PillowFont, find_font
from t2i.media.images import load_image

Cell = Image.Image | Path | None
"""A picture, a picture file, or None for a grey cell."""

T = TypeVar("T")

GAP = 2  # pixels between pictures
PAD = 6  # pixels around a label
LINES = 3  # most lines of one caption
CLOSING = "，。、！？：；）》”"  # Chinese punctuation that must not begin a line


def in_rows(items: Sequence[T], columns: int | None = None) -> list[list[T]]:
    """The items in rows of `columns`; None: in a grid about as wide as it is high."""
    columns = columns or math.isqrt(len(items) - 1) + 1
    return [list(items[i : i + columns]) for i in range(0, len(items), columns)]


def contact_sheet(
    rows: Sequence[Sequence[Cell]],
    *,
    left: Sequence[str] = (),
    top: Sequence[str] = (),
    cell: tuple[int, int] | None = None,
    gap: int = GAP,
    font: Font | None = None,
) -> Image.Image:
    """The pictures in rows on one white RGB image.

    left, top: labels of the rows and of the columns.
    cell: (width, height) in pixels of every cell. Larger pictures are reduced to fit, and files are opened one at a
        time. None: a column is as wide as its widest picture, a row as high as its highest.
    font: of the labels (None: one that has their glyphs).
    """
    columns = max(map(len, rows))
    if cell is None:
        rows = [[_load(item) for item in row] for row in rows]
        widths = [max(_size(row[x])[0] for row in rows if x < len(row)) for x in range(columns)]
        heights = [max(_size(item)[1] for item in row) for row in rows]
    else:
        widths, heights = [cell[0]] * columns, [cell[1]] * len(rows)
    letters = (font or find_font("".join([*left, *top]))).at(letter_size(max(*widths, *heights)))
    left_sizes, top_sizes = ([_extent(text, letters) for text in texts] for texts in (left, top))
    widths = [max([width, *(size[0] for size in top_sizes)]) for width in widths]
    heights = [max([height, *(size[1] for size in left_sizes)]) for height in heights]
    xs = _starts(widths, max((size[0] for size in left_sizes), default=0), gap)
    ys = _starts(heights, max((size[1] for size in top_sizes), default=0), gap)

    sheet = Image.new("RGB", (xs[-1] - gap, ys[-1] - gap), "white")
    pen = ImageDraw.Draw(sheet)
    for x, text in zip(xs, top, strict=False):
        pen.multiline_text((x + PAD, PAD), text, "black", letters)
    for y, text in zip(ys, left, strict=False):
        pen.multiline_text((PAD, y + PAD), text, "black", letters)
    for y, row in zip(ys, rows, strict=False):
        for x, item in zip(xs, row, strict=False):
            picture = _load(item)
            if picture is None:
                picture = Image.new("RGB", cell or (widths[0], heights[0]), "lightgrey")
            elif cell is not None and (picture.width > cell[0] or picture.height > cell[1]):
                picture = picture.copy()
                picture.thumbnail(cell, Image.Resampling.LANCZOS)
            sheet.paste(picture, (x, y))
    return sheet


def captioned(picture: Image.Image, captions: Sequence[str], font: Font) -> Image.Image:
    """The picture with captions under it, each wrapped to at most `LINES` lines."""
    letters = font.at(letter_size(picture.width))
    text = "\n".join(line for caption in captions for line in wrap(caption, letters, picture.width, LINES))
    if not text:
        return picture
    image = Image.new("RGB", (picture.width, picture.height + _extent(text, letters)[1]), "white")
    image.paste(picture)
    ImageDraw.Draw(image).multiline_text((0, picture.height + PAD // 2), text, "black", letters)
    return image


def titled(sheet: Image.Image, title: str, font: Font) -> Image.Image:
    """The sheet with a line of text above it."""
    letters = font.at(16)
    height = _extent(title, letters)[1]
    image = Image.new("RGB", (sheet.width, height + sheet.height), "white")
    image.paste(sheet, (0, height))
    ImageDraw.Draw(image).text((PAD, PAD), title, "dimgrey", letters)
    return image


def letter_size(side: int) -> int:
    """Size in pixels of the letters beside a picture of this side."""
    return max(11, side // 14)


def wrap(text: str, font: PillowFont, width: int, lines: int) -> list[str]:
    """`text` in at most `lines` lines of `width` pixels; a text that is too long ends in an ellipsis.

    Lines break between English words and between Chinese characters, but never before closing punctuation.
    """
    out = [""]
    for piece in _pieces(text):
        if out[-1] and font.getlength((out[-1] + piece).rstrip()) > width:
            out[-1] = out[-1].rstrip()
            out.append("")
            piece = piece.lstrip()
        out[-1] += piece
    if len(out) > lines:
        out = out[:lines]
        last = out[-1].rstrip()
        while last and font.getlength(last + "…") > width:
            last = last[:-1].rstrip()
        out[-1] = last + "…"
    return out


def _pieces(text: str) -> Iterator[str]:
    """The unbreakable parts: a word with the space after it, a Chinese character with its punctuation."""
    word = ""
    for letter in text:
        if letter in CLOSING:
            word += letter
            continue
        if word and (ord(letter) > 0x2E7F or word[-1] == " " or ord(word[-1]) > 0x2E7F):
            yield word
            word = ""
        word += letter
    if word:
        yield word


def _starts(lengths: Sequence[int], first: int, gap: int) -> list[int]:
    """Where cells of these lengths begin, and where one more would begin."""
    starts = [first]
    for length in lengths:
        starts.append(starts[-1] + length + gap)
    return starts


def _load(item: Cell) -> Image.Image | None:
    return load_image(item) if isinstance(item, Path) else item


def _size(item: Cell) -> tuple[int, int]:
    return item.size if isinstance(item, Image.Image) else (0, 0)


def _extent(text: str, letters: PillowFont) -> tuple[int, int]:
    """(width, height) in pixels of a label with the padding around it."""
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=letters)
    return math.ceil(box[2]) + 2 * PAD, math.ceil(box[3]) + 2 * PAD

"""Captions on a contact sheet: a font that shows them, and lines of the right length."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2i.errors import InputError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

NAMES = (
    "NotoSansCJKsc-Regular", "NotoSansCJK-Regular", "NotoSansSC", "NotoSerifCJK-Regular", "SourceHanSans",
    "wqy-microhei", "wqy-zenhei", "PingFang", "Hiragino Sans GB", "STHeiti", "msyh", "simhei", "simsun",
    "DroidSansFallback", "uming", "ukai", "DejaVuSans.", "LiberationSans-Regular", "Arial.", "arial.",
)  # fmt: skip
"""How the files of usable fonts begin, the ones that show Chinese first."""

ABSENT = "\U0010fffe"  # a noncharacter: every font draws its "no such glyph" for it
FALLBACK = "No font here shows these captions: name one with --font, or install one (Debian: fonts-wqy-zenhei)."


@dataclass(frozen=True)
class Face:
    """A font at any size. complete: it shows everything that was asked for."""

    path: Path | None
    complete: bool

    def at(self, size: int) -> Font:
        return _open(self.path, size)


def _open(path: Path | None, size: int) -> Font:
    """The font in a file, or the one that comes with Pillow. Raises OSError."""
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def folders() -> list[Path]:
    """Where this system keeps its fonts."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    return [
        home / ".local/share/fonts",
        home / ".fonts",
        Path("/usr/local/share/fonts"),
        Path("/usr/share/fonts"),
    ]


def shows(path: Path | None, text: str) -> bool:
    """Whether the font has a glyph for every letter of `text`."""
    try:
        font = _open(path, 24)
        blank = _glyph(font, ABSENT)
        return all(_glyph(font, letter) != blank for letter in set(text) if not letter.isspace())
    except OSError:
        return False


def _glyph(font: Font, letter: str) -> bytes:
    box = Image.new("L", (40, 40))
    ImageDraw.Draw(box).text((4, 4), letter, font=font, fill=255)
    return box.tobytes()


def find_face(text: str, own: Path | None = None, places: Iterable[Path] | None = None) -> Face:
    """The best font for `text`: `own` if given, else the first of the system's that shows it all.

    Raises InputError when `own` is no font.
    """
    if own is not None:
        try:
            _open(own, 24)
        except OSError as error:
            raise InputError(f"cannot use {own} as a font.", "It takes a .ttf, .otf or .ttc file.") from error
        return Face(own, shows(own, text))
    found = [f for place in (folders() if places is None else places) for f in _fonts(place)]
    for name in NAMES:
        for path in found:
            if path.name.startswith(name) and shows(path, text):
                return Face(path, True)
    return Face(None, shows(None, text))


def _fonts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc"))


def wrap(text: str, font: Font, width: int, lines: int) -> list[str]:
    """`text` in at most `lines` lines of `width` pixels; what does not fit becomes an ellipsis.

    English breaks between words, Chinese between any two characters but not before a punctuation mark.
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
    """What must stay together: a word and the space after it, a Chinese character and its punctuation."""
    word = ""
    for letter in text:
        if letter in "，。、！？：；）》”":
            word += letter
            continue
        if word and (ord(letter) > 0x2E7F or word[-1] == " " or ord(word[-1]) > 0x2E7F):
            yield word
            word = ""
        word += letter
    if word:
        yield word

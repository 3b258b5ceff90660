"""Finding a font that has the glyphs of a text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2i.errors import InputError

PillowFont = ImageFont.FreeTypeFont | ImageFont.ImageFont

PREFERRED = (
    "NotoSansCJKsc-Regular", "NotoSansCJK-Regular", "NotoSansSC", "NotoSerifCJK-Regular", "SourceHanSans",
    "wqy-microhei", "wqy-zenhei", "PingFang", "Hiragino Sans GB", "STHeiti", "msyh", "simhei", "simsun",
    "DroidSansFallback", "uming", "ukai", "DejaVuSans.", "LiberationSans-Regular", "Arial.", "arial.",
)  # fmt: skip
"""How the names of good font files begin, best first. Any other font is tried after these."""

SUFFIXES = (".ttf", ".otf", ".ttc")
MISSING = "\U0010fffe"  # a noncharacter: every font draws its glyph for missing characters


@dataclass(frozen=True)
class Font:
    """A font file, or Pillow's own font (path None). complete: whether it has all glyphs of the text asked for."""

    path: Path | None
    complete: bool

    def at(self, size: int) -> PillowFont:
        """The font at a size in pixels."""
        return _open(self.path, size)


def find_font(text: str, own: Path | None = None, folders: Sequence[Path] | None = None) -> Font:
    """A font for `text`: `own` if given, else the first that has all its glyphs, else Pillow's with complete=False.

    The order is Pillow's own font, which is the same on every machine, then the installed ones, `PREFERRED` first.
    folders: where fonts are installed (None: the places of this system). Raises InputError if `own` is no font.
    """
    if own is not None:
        try:
            _open(own, 24)
        except OSError as error:
            raise InputError(f"cannot use {own} as a font.", "It takes a .ttf, .otf or .ttc file.") from error
        return Font(own, has_glyphs(own, text))
    if has_glyphs(None, text):
        return Font(None, True)
    installed = [path for folder in (system_folders() if folders is None else folders) for path in _files(folder)]
    for path in sorted(installed, key=_rank):
        if has_glyphs(path, text):
            return Font(path, True)
    return Font(None, False)


def has_glyphs(path: Path | None, text: str) -> bool:
    """Whether the font has a glyph for every visible character of `text`; False for a file that is no font."""
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    try:
        font = _open(path, 24)
        missing = _draw(font, MISSING)
        return all(_draw(font, letter) != missing for letter in letters)
    except OSError:
        return False


def system_folders() -> list[Path]:
    """Where this system keeps its fonts."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = [Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]
    return [home / ".local/share/fonts", home / ".fonts", *shared]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _rank(path: Path) -> int:
    return next((i for i, start in enumerate(PREFERRED) if path.name.startswith(start)), len(PREFERRED))


def _open(path: Path | None, size: int) -> PillowFont:
    """The font in a file, or Pillow's own. Raises OSError."""
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def _draw(font: PillowFont, letter: str) -> bytes:
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((4, 4), letter, font=font, fill=255)
    return image.tobytes()

"""The parts of a picture file, chunks and segments, and what is written in them.

Nothing is decoded and no checksum is looked at: of a damaged file, what is left can still be read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TEXT = 1 << 20  # bytes of one text of a PNG, as Pillow has it
XMP_KEY = "XML:com.adobe.xmp"  # of a PNG's text chunk
EXIF_HEAD, XMP_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # of a JPEG's segments
RAW_EXIF = "Raw profile type exif"  # ImageMagick's hexadecimal EXIF in a PNG


def format_of(data: bytes) -> str | None:
    """PNG, JPEG or WEBP by the first bytes; None for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if (data[:4], data[8:12]) == (b"RIFF", b"WEBP") else None


def chunks(data: bytes, kind: str) -> Iterator[tuple[bytes, bytes]]:
    """(name, contents) of the parts of a file of format `kind`: chunks of a PNG or WebP; of a JPEG the segments
    before its pixels, named by their marker. The last one may be cut short."""
    at = {"PNG": 8, "WEBP": 12, "JPEG": 2}[kind]
    while at + 8 <= len(data):
        if kind == "JPEG":
            name, head, length = data[at + 1 : at + 2], 4, int.from_bytes(data[at + 2 : at + 4]) - 2
            if data[at] != 0xFF or name == b"\xda" or length < 0:  # the pixels begin
                return
            tail = 0
        elif kind == "PNG":
            name, head, length = data[at + 4 : at + 8], 8, int.from_bytes(data[at : at + 4])
            tail = 4
        else:
            name, head, length = data[at : at + 4], 8, int.from_bytes(data[at + 4 : at + 8], "little")
            tail = length % 2
        yield name, data[at + head : at + head + length]
        at += head + length + tail


@dataclass(frozen=True)
class Written:
    """What is written in a file beside its pixels. texts: those of a PNG, by their keys; exif: TIFF's bytes; xmp."""

    texts: dict[str, str]
    exif: bytes
    xmp: bytes


def read_written(data: bytes, kind: str, keys: tuple[str, ...]) -> Written:
    """The texts with `keys`, the EXIF and the XMP of a file of format `kind`; of each the last, empty for none."""
    raw: dict[str, tuple[bytes, bytes]] = {}  # only the last of each is unpacked
    exif = xmp = b""
    for name, content in chunks(data, kind):
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            key, _, rest = content.partition(b"\0")
            raw[key.decode("latin-1")] = name, rest
        elif name in (b"eXIf", b"EXIF"):
            exif = content
        elif name == b"XMP ":
            xmp = content
        elif name == b"\xe1" and content.startswith(EXIF_HEAD):
            exif = content
        elif name == b"\xe1" and content.startswith(XMP_HEAD):
            xmp = content.removeprefix(XMP_HEAD)
    read = {key: _text(*raw[key]) for key in (*keys, XMP_KEY, RAW_EXIF) if key in raw}
    texts = {key: text for key, text in read.items() if text is not None}
    if RAW_EXIF in texts and not exif:
        exif = _unhex(texts[RAW_EXIF])
    return Written(texts, exif, texts.get(XMP_KEY, "").encode() or xmp)


def _text(name: bytes, rest: bytes) -> str | None:
    """The text of a chunk without its key; None for one that is too long or damaged."""
    packed = name == b"zTXt"
    if name == b"iTXt":
        packed = rest[:1] != b"\0"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # without the language and the translated key
    elif packed:
        rest = rest[1:]
    if packed:
        unpacker = zlib.decompressobj()
        try:
            rest = unpacker.decompress(rest, MAX_TEXT)
        except zlib.error:
            return None
        if not unpacker.eof:
            return None
    if len(rest) > MAX_TEXT:
        return None
    try:
        return rest.decode("utf-8" if name == b"iTXt" else "latin-1")
    except UnicodeDecodeError:
        return None


def _unhex(text: str) -> bytes:
    """The bytes of ImageMagick's profile: three lines of a head, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""

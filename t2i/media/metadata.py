"""Metadata of picture files: writing a record into PNG, JPEG and WebP, and reading what a file says about itself.

PNG: text chunks `parameters`, `t2i` and `t2i:pixels` (their digest), and XMP, before the pixels. JPEG and WebP:
`parameters` in EXIF's UserComment, and XMP that contains the record. The XMP has IPTC's properties DigitalSourceType,
AISystemUsed, AISystemVersionUsed and AIPromptInformation, an InstanceID made of the record's key, and for an edited
picture DerivedFrom with that of its source. Signatures are in `c2pa.py`, the formats of other tools in
`other_tools.py`.
"""

from __future__ import annotations

import html
import json
import warnings
from typing import TYPE_CHECKING, Any

from t2i import __version__
from t2i.media.other_tools import read_comfy, read_parameters
from t2i.media.parts import XMP_KEY, read_written
from t2i.media.record import Record, parse_record
from t2i.media.xmp import IPTC, MEDIA_MANAGEMENT, OURS, REFERENCE, Packet

if TYPE_CHECKING:
    pass

USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
MAKE, MODEL, DESCRIPTION = 0x010F, 0x0110, 0x010E  # where ComfyUI's WebP files keep their graph
UNICODE = b"UNICODE\0"
MAX_SEGMENT = 60_000  # a JPEG segment holds 65,533 bytes
QUALITY = {"PNG": {"compress_level": 4}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
"""Of PNG's levels the last before files grow by more than 5%; Pillow's own, 6, takes twice as long."""

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{iptc}"
 xmlns:xmpMM="{media}" xmlns:stRef="{reference}" xmlns:t2i="{ours}">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<Iptc4xmpExt:AISystemUsed>{system}</Iptc4xmpExt:AISystemUsed>
<Iptc4xmpExt:AISystemVersionUsed>{version}</Iptc4xmpExt:AISystemVersionUsed>
<xmpMM:InstanceID>{instance}</xmpMM:InstanceID>
{derived}{prompt}{record}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def metadata_for(kind: str, record: Record | None, pixels: str | None = None) -> dict[str, Any]:
    """Keyword arguments for Pillow's `save`: quality, and `record` as the metadata of a file of format `kind`.

    pixels: their digest, for a PNG; the others are lossy, and what is read again is not what was saved.
    """
    quality: dict[str, Any] = QUALITY.get(kind, {})
    if record is None:
        return quality
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("parameters", record.parameters())
        info.add_itxt("t2i", json.dumps(record.table(), ensure_ascii=False))
        if pixels is not None:
            info.add_text("t2i:pixels", pixels)
        info.add_itxt(XMP_KEY, _xmp(record, with_record=False))
        return {**quality, "pnginfo": info}
    from PIL import Image

    xmp, comment = _xmp(record, with_record=True), UNICODE + record.parameters().encode("utf-16-be")
    if len(xmp.encode()) > MAX_SEGMENT:  # a prompt of many kilobytes: the record is left out
        xmp = _xmp(record, with_record=False)
    exif = Image.Exif()
    if len(comment) <= MAX_SEGMENT:
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    return {**quality, "xmp": xmp.encode(), "exif": exif.tobytes()}


def read_tags(data: bytes, kind: str) -> dict[str, Any]:
    """What a file of format `kind` says about itself; None for what is not there.

    No pixel is decoded, and no checksum looked at: a damaged file says what is left.

    Keys: t2i (our record), parameters (the text that other tools read), generator (the settings of another tool, see
    `other_tools`), digital_source_type (short name), ai_system, instance_id (of XMP), pixels (the digest that they had
    when they were saved), damaged (whether there is a record of ours that cannot be read), xmp_damaged (whether there
    is XMP that cannot be read).
    """
    written = read_written(data, kind, ("t2i", "t2i:pixels", "parameters", "prompt"))
    text, xmp = written.texts, Packet(written.xmp)
    record = text.get("t2i") or xmp.get(OURS, "record")
    ours = parse_record(record)
    parameters, graph = text.get("parameters"), text.get("prompt")
    if parameters is None and graph is None:
        parameters, graph = _read_exif(written.exif)
    generator = None
    if ours is None:
        generator = read_comfy(graph) if graph else None
        generator = generator or (read_parameters(parameters) if parameters else None)
    source = xmp.get(IPTC, "DigitalSourceType")
    return {
        "t2i": ours,
        "parameters": parameters,
        "generator": generator,
        "digital_source_type": source.rsplit("/", 1)[-1] if source else None,
        "ai_system": xmp.get(IPTC, "AISystemUsed"),
        "instance_id": xmp.get(MEDIA_MANAGEMENT, "InstanceID"),
        "pixels": text.get("t2i:pixels"),
        "damaged": bool(record) and ours is None,
        "xmp_damaged": not xmp.readable,
    }


def _read_exif(data: bytes) -> tuple[str | None, str | None]:
    """(the text of UserComment, ComfyUI's graph) of EXIF; None for what is not there or cannot be read."""
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file it is told once, by who decodes it
            exif.load(data)
            comment = _comment(exif.get_ifd(EXIF_IFD).get(USER_COMMENT))
            pairs = [str(exif.get(tag) or "").partition(":") for tag in (MAKE, MODEL, DESCRIPTION)]
    except Exception:  # a parser that is fed garbage raises nearly anything
        return None, None
    graphs = [value for name, _, value in pairs if name.lower() == "prompt"]
    return comment, graphs[-1] if graphs else None


def _comment(value: Any) -> str | None:
    """The text of EXIF's UserComment. Its first eight bytes name the encoding; for UNICODE, byte orders differ."""
    if isinstance(value, str):
        return value or None
    if not isinstance(value, bytes):
        return None
    head, body = value[:8], value[8:]
    if head == UNICODE:
        # both orders decode; the right one gives the English words of the text
        texts = [body.decode(code, "replace") for code in ("utf-16-be", "utf-16-le")]
        return max(texts, key=lambda text: sum(c.isascii() for c in text))
    if head in (b"ASCII\0\0\0", b"\0" * 8):
        return body.decode("utf-8", "replace").rstrip("\0") or None
    return None


def _xmp(record: Record, with_record: bool) -> str:
    """The XMP packet. with_record: include the whole record."""
    # ASCII JSON has no control characters, which XML does not allow even escaped
    ours = f"<t2i:record>{html.escape(json.dumps(record.table()))}</t2i:record>\n" if with_record else ""
    prompt = ""
    if not record.private and len(record.prompt.encode()) <= MAX_SEGMENT // 8:
        text = html.escape("".join(c if c.isprintable() else " " for c in record.prompt))
        prompt = f"<Iptc4xmpExt:AIPromptInformation>{text}</Iptc4xmpExt:AIPromptInformation>\n"
    derived = ""
    if record.parent_id:
        reference = f"<stRef:instanceID>{_element(record.parent_id)}</stRef:instanceID>"
        derived = f'<xmpMM:DerivedFrom rdf:parseType="Resource">{reference}</xmpMM:DerivedFrom>\n'
    return XMP.format(
        iptc=IPTC,
        media=MEDIA_MANAGEMENT,
        reference=REFERENCE,
        ours=OURS,
        instance=_element(record.instance_id),
        derived=derived,
        source=record.source_uri,
        system=_element(f"t2i ({record.model})"),
        version=__version__,
        prompt=prompt,
        record=ours,
    )


def _element(text: str) -> str:
    """Text for an XML element, without characters that XML does not allow."""
    return html.escape("".join(c for c in text if c.isprintable()))

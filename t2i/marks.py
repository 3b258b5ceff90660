"""What a picture says about itself: our record, the line other tools read, and that a model made it.

PNG: text chunks ``parameters`` and ``t2i``, and XMP before the pixels.  JPEG and WebP: ``parameters`` in
EXIF's UserComment, XMP with our record in it.  The XMP carries the IPTC properties DigitalSourceType,
AISystemUsed and AISystemVersionUsed.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from t2i import __version__

if TYPE_CHECKING:
    from PIL import Image

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
OURS = "urn:t2i:record:1"
SCHEMA = 1
USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
UNICODE = b"UNICODE\0"
MAX_MARK = 60_000  # a JPEG segment holds 65,533 bytes

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{iptc}" xmlns:t2i="{ours}">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<Iptc4xmpExt:AISystemUsed>{system}</Iptc4xmpExt:AISystemUsed>
<Iptc4xmpExt:AISystemVersionUsed>{version}</Iptc4xmpExt:AISystemVersionUsed>
{record}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Record:
    """How a picture came to be. ``key`` names (weights, settings, prompt, seed): equal keys, equal pictures.

    With ``private`` the prompt and the negative prompt stay out of the file.
    """

    key: str
    command: str
    prompt: str
    seed: int
    model: str
    weights: str
    size: tuple[int, int]
    settings: dict[str, Any] = field(default_factory=dict)
    negative: str = ""
    cut: str | None = None
    source_type: str = "trainedAlgorithmicMedia"
    private: bool = False

    def table(self) -> dict[str, Any]:
        """The record as it stands in the file, and in ``--json``."""
        prompts = {} if self.private else {"prompt": self.prompt, "negative": self.negative, "cut": self.cut}
        return {
            "schema": SCHEMA,
            "tool": f"t2i {__version__}",
            "command": self.command,
            "key": self.key,
            **prompts,
            "seed": self.seed,
            "model": self.model,
            "weights": self.weights,
            "size": list(self.size),
            "settings": self.settings,
        }

    def parameters(self) -> str:
        """The line that AUTOMATIC1111's tools and their many readers understand."""
        base = self.settings.get("stages", {}).get("base", {})
        facts = {
            "Steps": base.get("steps"),
            "Sampler": base.get("sampler"),
            "CFG scale": base.get("guidance"),
            "Seed": self.seed,
            "Size": f"{self.size[0]}x{self.size[1]}",
            "Model hash": self.weights[:10],
            "Model": self.model,
            "Version": f"t2i {__version__}",
        }
        lines = [] if self.private else [self.prompt]
        if self.negative and not self.private:
            lines.append(f"Negative prompt: {self.negative}")
        lines.append(", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None))
        return "\n".join(lines)


def save_options(kind: str, record: Record | None) -> dict[str, Any]:
    """Keyword arguments for Pillow's ``save`` that write the marks of ``record`` into a file of format
    ``kind``."""
    look: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}.get(kind, {})
    if record is None:
        return look
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("parameters", record.parameters())
        info.add_itxt("t2i", json.dumps(record.table(), ensure_ascii=False))
        info.add_itxt("XML:com.adobe.xmp", _xmp(record, with_record=False))
        return {"pnginfo": info}
    from PIL import Image

    xmp, comment = _xmp(record, with_record=True), UNICODE + record.parameters().encode("utf-16-be")
    if len(xmp.encode()) > MAX_MARK:  # a prompt of many kilobytes: the file keeps the marks and the key
        xmp = _xmp(record, with_record=False)
    exif = Image.Exif()
    if len(comment) <= MAX_MARK:
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    return {**look, "xmp": xmp.encode(), "exif": exif.tobytes()}


def read_marks(image: Image.Image) -> dict[str, Any]:
    """The marks of an opened picture: t2i, parameters, digital_source_type, ai_system; None for what is not
    there."""
    text = getattr(image, "text", {}) if image.format == "PNG" else {}
    xmp = text.get("XML:com.adobe.xmp") or image.info.get("xmp") or ""
    if isinstance(xmp, bytes):
        xmp = xmp.decode("utf-8", "replace")
    ours = text.get("t2i") or _tag(xmp, "t2i:record")
    parameters = text.get("parameters")
    if parameters is None:
        comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
        if isinstance(comment, bytes) and comment.startswith(UNICODE):
            parameters = comment[len(UNICODE) :].decode("utf-16-be", "replace")
    source = _tag(xmp, "Iptc4xmpExt:DigitalSourceType")
    return {
        "t2i": _record(ours),
        "parameters": None if parameters is None else str(parameters),
        "digital_source_type": source.rsplit("/", 1)[-1] if source else None,
        "ai_system": _tag(xmp, "Iptc4xmpExt:AISystemUsed"),
    }


def _xmp(record: Record, with_record: bool) -> str:
    # ASCII JSON holds no control character, which XML could not carry even escaped
    ours = f"<t2i:record>{html.escape(json.dumps(record.table()))}</t2i:record>\n" if with_record else ""
    return XMP.format(
        iptc=IPTC,
        ours=OURS,
        source=SOURCE_TYPES + record.source_type,
        system=html.escape("".join(c for c in f"t2i ({record.model})" if c.isprintable())),
        version=__version__,
        record=ours,
    )


def _tag(xmp: str, name: str) -> str | None:
    found = re.search(rf"<{name}>([^<]*)</{name}>", xmp) or re.search(rf'{name}="([^"]*)"', xmp)
    return html.unescape(found.group(1)) if found else None


def _record(text: str | None) -> dict[str, Any] | None:
    """Our record, or None for something that only looks like one: a file may say anything."""
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("schema") == SCHEMA else None

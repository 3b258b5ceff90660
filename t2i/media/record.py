"""What a picture says about itself: our record, the line other tools read, and that a model made it.

PNG: text chunks ``parameters`` and ``t2i``, and XMP before the pixels.  JPEG and WebP: ``parameters`` in
EXIF's UserComment, XMP with our record in it.  The XMP carries the IPTC properties DigitalSourceType,
AISystemUsed, AISystemVersionUsed and AIPromptInformation.  Content Credentials are in ``c2pa.py``, pictures of
other tools in ``foreign_marks.py``.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from t2i import __version__
from t2i.media.foreign_marks import read_comfy, read_parameters

if TYPE_CHECKING:
    from PIL import Image

    from t2i.media.c2pa import Seal

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
OURS = "urn:t2i:record:1"
SCHEMA = 1
USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
MAKE, MODEL, DESCRIPTION = 0x010F, 0x0110, 0x010E  # where ComfyUI's WebP files keep their graph
UNICODE = b"UNICODE\0"
MAX_MARK = 60_000  # a JPEG segment holds 65,533 bytes

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{iptc}" xmlns:t2i="{ours}">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<Iptc4xmpExt:AISystemUsed>{system}</Iptc4xmpExt:AISystemUsed>
<Iptc4xmpExt:AISystemVersionUsed>{version}</Iptc4xmpExt:AISystemVersionUsed>
{prompt}{record}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Record:
    """How a picture came to be. ``key`` names (weights, settings, prompt, seed): equal keys, equal pictures.

    ``weights`` is the digest of the whole model, ``files`` the sha256 of the weights of each stage that took part.
    ``source`` is what the picture that this one was made from said of itself, see :func:`carried`; its own
    ``source_type`` follows from :func:`edited_source_type`.  With ``private`` every prompt stays out of the file.
    With ``seal`` the file is signed (:class:`t2i.media.c2pa.Seal`).
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
    files: dict[str, str] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    seal: Seal | None = field(default=None, compare=False, repr=False)

    @property
    def source_uri(self) -> str:
        """``source_type`` as IPTC's vocabulary writes it."""
        return SOURCE_TYPES + self.source_type

    def table(self) -> dict[str, Any]:
        """The record as it stands in the file, and in ``--json``."""
        prompts = {} if self.private else {"prompt": self.prompt, "negative": self.negative, "cut": self.cut}
        source = _without_prompts(self.source) if self.private and self.source else self.source
        return {
            "schema": SCHEMA,
            "tool": f"t2i {__version__}",
            "versions": versions(),
            "command": self.command,
            "key": self.key,
            **prompts,
            "seed": self.seed,
            "model": self.model,
            "weights": self.weights,
            "files": self.files,
            "size": list(self.size),
            "settings": self.settings,
            "source_type": self.source_type,
            **({"source": source} if source else {}),
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
        # readers of this format take every line break for the end of the prompt
        lines = [] if self.private else [" ".join(self.prompt.splitlines())]
        if self.negative and not self.private:
            lines.append(f"Negative prompt: {' '.join(self.negative.splitlines())}")
        lines.append(", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None))
        return "\n".join(lines)


#: what a record of ours may hold: anything else in a file is not repeated
KEYS = frozenset(
    ["schema", "tool", "versions", "command", "key", "prompt", "negative", "cut", "seed", "model", "weights", "files"]
    + ["size", "settings", "source_type", "source"]
)
GENERATED = "trainedAlgorithmicMedia"
#: IPTC's vocabulary, digitalsourcetype
KNOWN_TYPES = frozenset(
    [GENERATED, "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "algorithmicallyEnhanced"]
    + ["compositeSynthetic", "composite", "compositeCapture", "digitalCapture", "computationalCapture"]
    + ["digitalCreation", "dataDrivenMedia", "virtualRecording", "humanEdits", "screenCapture"]
    + ["negativeFilm", "positiveFilm", "print"]
)


@cache
def versions() -> dict[str, str]:
    """What drew the picture: t2i, Python and torch."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "unknown"
    return {"t2i": __version__, "python": platform.python_version(), "torch": torch}


def edited_source_type(marks: dict[str, Any], command: str) -> str:
    """DigitalSourceType of a picture made from one with ``marks`` (of :func:`read_marks`).

    Inpainting makes a composite of anything that no model made throughout. Upscaling keeps the source's type;
    where it has none, the picture was enhanced by an algorithm.
    """
    before = marks.get("digital_source_type")
    if command == "inpaint":
        return before if before == GENERATED else "compositeWithTrainedAlgorithmicMedia"
    return before if before in KNOWN_TYPES else "algorithmicallyEnhanced"


def carried(marks: dict[str, Any]) -> dict[str, Any] | None:
    """What a picture made from one with ``marks`` keeps of them, for :attr:`Record.source`; None for nothing.

    Sources of sources are left out: a picture that is edited often does not grow without end.
    """
    if marks.get("t2i"):
        return {"t2i": {key: value for key, value in marks["t2i"].items() if key != "source"}}
    kept = {key: marks.get(key) for key in ("parameters", "generator", "digital_source_type", "ai_system")}
    return {key: value for key, value in kept.items() if value} or None


def _without_prompts(table: dict[str, Any]) -> dict[str, Any]:
    prompts = ("prompt", "negative", "cut", "parameters")
    return {
        key: _without_prompts(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key not in prompts
    }


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
    """The marks of an opened picture; None for what is not there.

    Keys: t2i (our record), parameters (the line that other tools read), generator (tool, prompt, seed … of a picture
    by another tool, see ``foreign_marks``), digital_source_type, ai_system, damaged (whether there is a record of ours
    that cannot be read).
    """
    text = getattr(image, "text", {}) if image.format == "PNG" else {}
    xmp = text.get("XML:com.adobe.xmp") or image.info.get("xmp") or ""
    if isinstance(xmp, bytes):
        xmp = xmp.decode("utf-8", "replace")
    said = text.get("t2i") or _tag(xmp, "t2i:record")
    ours = _record(said)
    parameters, graph = text.get("parameters"), text.get("prompt")
    if parameters is None and graph is None:
        exif = image.getexif()
        parameters = _comment(exif.get_ifd(EXIF_IFD).get(USER_COMMENT))
        for tag in (MAKE, MODEL, DESCRIPTION):
            name, _, value = str(exif.get(tag) or "").partition(":")
            graph = value if name.lower() == "prompt" else graph
    generator = None
    if ours is None:
        generator = read_comfy(str(graph)) if graph else None
        generator = generator or (read_parameters(str(parameters)) if parameters else None)
    source = _tag(xmp, "Iptc4xmpExt:DigitalSourceType")
    return {
        "t2i": ours,
        "parameters": None if parameters is None else str(parameters),
        "generator": generator,
        "digital_source_type": source.rsplit("/", 1)[-1] if source else None,
        "ai_system": _tag(xmp, "Iptc4xmpExt:AISystemUsed"),
        "damaged": bool(said) and ours is None,
    }


def _comment(value: Any) -> str | None:
    """EXIF's UserComment: eight bytes name the encoding. Tools do not agree on the byte order of UNICODE."""
    if isinstance(value, str):
        return value or None
    if not isinstance(value, bytes):
        return None
    head, body = value[:8], value[8:]
    if head == UNICODE:
        # either order decodes; the line has English words in it, which only the right one shows
        texts = [body.decode(code, "replace") for code in ("utf-16-be", "utf-16-le")]
        return max(texts, key=lambda text: sum(c.isascii() for c in text))
    if head in (b"ASCII\0\0\0", b"\0" * 8):
        return body.decode("utf-8", "replace").rstrip("\0") or None
    return None


def _xmp(record: Record, with_record: bool) -> str:
    # ASCII JSON holds no control character, which XML could not carry even escaped
    ours = f"<t2i:record>{html.escape(json.dumps(record.table()))}</t2i:record>\n" if with_record else ""
    prompt = ""
    if not record.private and len(record.prompt.encode()) <= MAX_MARK // 8:
        text = html.escape("".join(c if c.isprintable() else " " for c in record.prompt))
        prompt = f"<Iptc4xmpExt:AIPromptInformation>{text}</Iptc4xmpExt:AIPromptInformation>\n"
    return XMP.format(
        iptc=IPTC,
        ours=OURS,
        source=record.source_uri,
        system=html.escape("".join(c for c in f"t2i ({record.model})" if c.isprintable())),
        version=__version__,
        prompt=prompt,
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
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return None
    return {key: value[key] for key in value if key in KEYS}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")

"""The marks of a picture, which tell programs that a model made it, and whether each still holds.

Three are looked for, ours and those of other tools: the record of t2i, IPTC's digital source type in XMP, and Content
Credentials (C2PA). No watermark is: t2i writes none (docs/provenance.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from t2i.errors import InputError
from t2i.media.c2pa import read_credentials
from t2i.media.image_file import ImageFile, LoadedImage, pixel_digest
from t2i.media.parts import chunks
from t2i.media.record import KNOWN_TYPES, SYNTHETIC_TYPES, record_fault

State = Literal["valid", "broken", "unchecked", "absent"]
NAMES = {"record": "record of t2i", "source_type": "digital source type (IPTC)", "c2pa": "Content Credentials (C2PA)"}
"""mark -> what it is called."""


@dataclass(frozen=True)
class FoundMark:
    """state: valid; broken (cannot be read, or is not true of this picture); unchecked (there, but what would check it
    is not installed); absent (never there, or stripped). says: more about it, for people."""

    state: State
    says: str


@dataclass(frozen=True)
class Examined:
    """What a picture file says about itself, and whether it holds.

    facts: as `ImageFile.metadata`, and c2pa: as `read_credentials`; width and height are None where the head is
    damaged. marks: by the names of `NAMES`. synthetic: whether marks that hold say that a model made all or a part of
    it; None where they do not tell. fault: why the pixels cannot be read.
    """

    facts: dict[str, Any]
    marks: dict[str, FoundMark]
    synthetic: bool | None
    fault: InputError | None

    @property
    def broken(self) -> list[str]:
        """The names of the marks that are broken."""
        return [NAMES[name] for name, mark in self.marks.items() if mark.state == "broken"]


def examine(path: Path, trust: Path | None = None) -> Examined:
    """Look for marks, in a damaged picture too. trust: PEM file of the roots whose signers are trusted.

    Raises InputError: no picture, or a file of roots that holds none; UnavailableError for `trust` without the
    library.
    """
    file, fault = ImageFile.read_damaged(path)
    facts = {**file.metadata(), "c2pa": read_credentials(file, trust)}
    picture = None
    if fault is not None:
        facts |= {"width": None, "height": None}
    else:
        try:
            picture = file.decode()
        except InputError as error:
            fault = error
    moves = any(name == b"acTL" for name, _ in chunks(file.data, file.format))
    marks = {
        "record": _record(facts, picture, moves),
        "source_type": _source_type(facts),
        "c2pa": _credentials(facts["c2pa"]),
    }
    return Examined(facts, marks, _synthetic(facts, marks), fault)


def _record(facts: dict[str, Any], picture: LoadedImage | None, moves: bool) -> FoundMark:
    """moves: whether it is an animated PNG, which t2i never writes: a digest is that of the first image alone."""
    if facts["damaged"]:
        return FoundMark("broken", "it cannot be read")
    if facts["t2i"] is None:
        tools = (facts["ai_system"], (facts["generator"] or {}).get("tool"))
        by_us = any(str(tool).startswith("t2i") for tool in tools)
        return FoundMark("absent", "though the rest says that t2i made it" if by_us else "")
    fault = record_fault(facts["t2i"])
    if fault is not None:
        return FoundMark("broken", fault)
    if moves:
        return FoundMark("broken", "images were added: it is an animation, and the record is of one picture")
    if facts["pixels"] is None:
        return FoundMark("valid", "it can be read; whether the pixels are its own cannot be told")
    if picture is None:
        return FoundMark("broken", "the pixels cannot be read")
    if facts["pixels"] != pixel_digest(picture.image, picture.alpha):
        return FoundMark("broken", "the pixels were changed after it was written, or it is another picture's")
    return FoundMark("valid", "the pixels are those that it was written for")


def _source_type(facts: dict[str, Any]) -> FoundMark:
    term = facts["digital_source_type"]
    if facts["xmp_damaged"]:
        return FoundMark("broken", "the XMP cannot be read")
    if term is None:
        return FoundMark("absent", "" if facts["t2i"] is None else "though t2i writes one with each record")
    if term not in KNOWN_TYPES:
        return FoundMark("broken", f"{term[:100]} is no term of IPTC's list")
    ours = (facts["t2i"] or {}).get("source_type", term)
    if ours != term:
        return FoundMark("broken", f"{term}, but the record says {str(ours)[:100]}")
    return FoundMark("valid", term)


def _credentials(claim: dict[str, Any] | None) -> FoundMark:
    if claim is None:
        return FoundMark("absent", "")
    if claim["state"] == "not checked":
        return FoundMark("unchecked", "needs the library c2pa: pip install 't2i[c2pa]'")
    said = {
        "Trusted": ["unchanged since it was signed, by a trusted signer"],
        "Valid": ["unchanged since it was signed; the signer is not known"],
    }.get(claim["state"], ["changed after it was signed, or the signature is not its own"])
    said += [f"signed by {claim['signer']}"] if claim["signer"] else []
    lists = (claim["actions"], claim["ingredients"], claim["problems"])
    said += [", ".join(map(str, words)) for words in lists if words]
    broken = claim["ingredient_problems"]
    said += [f"credentials of what it was made from were broken: {', '.join(map(str, broken))}"] if broken else []
    return FoundMark("valid" if claim["state"] in ("Trusted", "Valid") else "broken", "; ".join(said))


def _synthetic(facts: dict[str, Any], marks: dict[str, FoundMark]) -> bool | None:
    terms = {
        "record": [(facts["t2i"] or {}).get("source_type")],
        "source_type": [facts["digital_source_type"]],
        "c2pa": (facts["c2pa"] or {}).get("source_types", []),
    }
    said = [str(term) for name, some in terms.items() if marks[name].state == "valid" for term in some]
    known = [term in SYNTHETIC_TYPES for term in said if term in KNOWN_TYPES]
    return any(known) if known else None

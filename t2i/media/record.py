"""The record of a picture: how it was made, and IPTC's digital source type.

`metadata.py` writes it into picture files and reads it back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from t2i import __version__
from t2i.jsonl import strict_json
from t2i.prompts import MAX_SEED
from t2i.schema import Between, build

if TYPE_CHECKING:
    from t2i.media.c2pa import Signer

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SCHEMA = 1  # version of the record
OURS = "urn:t2i:picture:"  # before the key, the name of a picture in XMP
MAX_ID = 200  # characters of another tool's name for a picture
MAX_SIDE = 64_000_000  # pixels of a picture, which may be one pixel high
MAX_RECORD = 1 << 20  # characters; ours have a few thousand


@dataclass(frozen=True)
class Record:
    """How a picture was made.

    key: digest of (weights, settings, prompt, seed); pictures with equal keys are equal.
    weights: digest of the whole model. files: sha256 of the weights of each stage that took part.
    cut: the part of the prompt that did not fit into the text encoder.
    source_type: a term of IPTC's digitalsourcetype, see `edited_source_type`.
    source: metadata of the picture that this one was made from, see `carried`.
    private: leave every prompt out of the file.
    signer: signs the file with Content Credentials.
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
    signer: Signer | None = field(default=None, compare=False, repr=False)

    @property
    def source_uri(self) -> str:
        """`source_type` as a URI of IPTC's vocabulary."""
        return SOURCE_TYPES + self.source_type

    @property
    def instance_id(self) -> str:
        """What XMP calls this picture."""
        return OURS + self.key

    @property
    def parent_id(self) -> str | None:
        """What XMP calls the picture that this one was made from; None where that has no name."""
        source = self.source or {}
        ours = source.get("t2i")
        found = OURS + str(ours.get("key", "")) if isinstance(ours, dict) else source.get("instance_id")
        return str(found)[:MAX_ID] if found else None

    def table(self) -> dict[str, Any]:
        """The record as JSON, in the file and in `--json`."""
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
        """The text that AUTOMATIC1111's tools write and many others read."""
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
        # to readers of this format, a line break ends the prompt
        lines = [] if self.private else [" ".join(self.prompt.splitlines())]
        if self.negative and not self.private:
            lines.append(f"Negative prompt: {' '.join(self.negative.splitlines())}")
        lines.append(", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None))
        return "\n".join(lines)


KEYS = frozenset(
    ["schema", "tool", "versions", "command", "key", "prompt", "negative", "cut", "seed", "model", "weights", "files"]
    + ["size", "settings", "source_type", "source"]
)
"""Keys of a record; anything else in a file is dropped."""
GENERATED = "trainedAlgorithmicMedia"
KNOWN_TYPES = frozenset(
    [GENERATED, "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "algorithmicallyEnhanced"]
    + ["compositeSynthetic", "composite", "compositeCapture", "digitalCapture", "computationalCapture"]
    + ["digitalCreation", "dataDrivenMedia", "virtualRecording", "humanEdits", "screenCapture"]
    + ["negativeFilm", "positiveFilm", "print"]
)
"""Terms of IPTC's digitalsourcetype."""
SYNTHETIC_TYPES = frozenset(
    [GENERATED, "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "compositeSynthetic", "dataDrivenMedia"]
)
"""Those of pictures that a program without a camera made in whole or in part."""


@cache
def versions() -> dict[str, str]:
    """Versions of t2i, Python and torch."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "unknown"
    return {"t2i": __version__, "python": platform.python_version(), "torch": torch}


def source_type_of(tags: dict[str, Any]) -> str | None:
    """The source type of a picture with `tags` (of `read_tags`, and c2pa: of `read_credentials`).

    That of XMP, of the record, of the Content Credentials: the first by which a model made it, else the first.
    """
    said = [tags.get("digital_source_type"), (tags.get("t2i") or {}).get("source_type")]
    said += (tags.get("c2pa") or {}).get("source_types", [])
    known = [term for term in said if isinstance(term, str) and term in KNOWN_TYPES]
    return next((term for term in known if term in SYNTHETIC_TYPES), known[0] if known else None)


def edited_source_type(tags: dict[str, Any], command: str) -> str:
    """The source type of a picture that `command` makes from one with `tags`, see `source_type_of`.

    Inpainting makes a composite, unless a model made all of the source. Upscaling keeps the source's type; without one,
    the picture is "algorithmically enhanced".
    """
    before = source_type_of(tags)
    if command == "inpaint":
        return before if before == GENERATED else "compositeWithTrainedAlgorithmicMedia"
    return before or "algorithmicallyEnhanced"


def carried(tags: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a source's `tags` that the new picture keeps, for `source`; None for nothing.

    The source's own source is left out, so that the metadata of a picture that is edited often does not grow. Of its
    Content Credentials it is told whether they held, and who signed.
    """
    claim = tags.get("c2pa") or {}
    signed = {"c2pa": {"state": claim["state"], "signer": claim["signer"]}} if claim else {}
    if tags.get("t2i"):
        return {"t2i": {key: value for key, value in tags["t2i"].items() if key != "source"}, **signed}
    names = ("parameters", "generator", "ai_system", "instance_id")
    kept = {key: tags.get(key) for key in names} | {"digital_source_type": source_type_of(tags), **signed}
    return {key: value for key, value in kept.items() if value} or None


def _without_prompts(table: dict[str, Any]) -> dict[str, Any]:
    prompts = ("prompt", "negative", "cut", "parameters")
    return {
        key: _without_prompts(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key not in prompts
    }


@dataclass(frozen=True)
class _Table:
    """The keys of a record with their types, see `table`."""

    schema: int
    command: str
    key: str
    seed: Annotated[int, Between(0, MAX_SEED)]
    model: str
    weights: str
    size: tuple[Annotated[int, Between(1, MAX_SIDE)], Annotated[int, Between(1, MAX_SIDE)]]
    settings: dict[str, Any]
    tool: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    prompt: str = ""
    negative: str = ""
    cut: str | None = None
    source_type: str = GENERATED
    source: dict[str, Any] | None = None


def record_fault(table: dict[str, Any]) -> str | None:
    """What is wrong with a record of `parse_record`: a key that is missing, or has a value of another type; None
    if it is as t2i writes them."""
    try:
        build(_Table, table)
    except ValueError as error:
        return str(error)
    return None


def parse_record(text: str | None) -> dict[str, Any] | None:
    """A record from its JSON; None for anything else, since a file may hold anything."""
    if not text or len(text) > MAX_RECORD:
        return None
    try:
        value = strict_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return None
    return {key: value[key] for key in value if key in KEYS}

"""What bundle.json says: the stages, in the order they run, their defaults, the sizes, the files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from t2i.errors import InputError

SCHEMA = 1
MANIFEST, CONFIG, WEIGHTS, TOKENIZER, CARD = (
    "bundle.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
)
KINDS = ("clip", "text", "prior", "base", "upsampler", "sharp")


@dataclass(frozen=True)
class Defaults:
    """How a stage is sampled unless the user says otherwise; None where the stage has no such dial.

    threshold: (percentile in (0, 1], cap >= 1) of Imagen's dynamic thresholding, "static" or "none".
    """

    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    threshold: tuple[float, float] | Literal["static", "none"] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def unworded(self) -> float | None:
        """A base's guidance where an embedding is all that it is given, and no text: ``extra["z_guidance"]``, or the
        same as with a text."""
        value = self.extra.get("z_guidance", self.guidance)
        return None if value is None else float(value)


@dataclass(frozen=True)
class StageEntry:
    """One stage: ``kind`` is clip, text, prior, base, upsampler or sharp; ``folder`` a plain name inside the bundle,
    or, for a shared stage, inside the bundle called ``source``. A sharp stage is no part of the cascade: it can stand
    in for the upsampler that its defaults' ``extra["instead_of"]`` names."""

    name: str
    kind: str
    folder: str
    defaults: Defaults = field(default_factory=Defaults)
    source: str | None = None

    @property
    def files(self) -> tuple[str, str]:
        """Its config and its weights, relative to the bundle that they lie in."""
        return f"{self.folder}/{CONFIG}", f"{self.folder}/{WEIGHTS}"


@dataclass(frozen=True)
class Manifest:
    """bundle.json. ``sizes`` are the picture sizes the cascade can stop at, ascending; ``stop`` is where it
    stops unless told otherwise, None for the largest; ``files`` maps a relative path to its sha256 and is
    filled by :func:`write_bundle`; ``notes`` holds free facts (recipe, hours, scores)."""

    family: str
    name: str
    stages: tuple[StageEntry, ...]
    sizes: tuple[int, ...]
    tokenizer: str | None = TOKENIZER
    card: str = CARD
    tool: str = ""
    schema: int = SCHEMA
    files: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    stop: int | None = None

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that are made when no size is asked for."""
        return self.stop if self.stop in self.sizes and self.stop else self.sizes[-1]

    def stage(self, name: str) -> StageEntry:
        """The stage called ``name``. Raises KeyError."""
        for entry in self.stages:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def of_kind(self, kind: str) -> list[StageEntry]:
        """The stages of a kind, in the order they run."""
        return [entry for entry in self.stages if entry.kind == kind]

    def digest(self, entry: StageEntry) -> str:
        """sha256 of a stage's weights, "" where the bundle does not say it."""
        return self.files.get(entry.files[1], "")


def sharpened(manifest: Manifest) -> Manifest:
    """The manifest with every sharp stage in the place of the upsampler that it can stand in for."""
    sharp = {e.defaults.extra.get("instead_of"): replace(e, kind="upsampler") for e in manifest.of_kind("sharp")}
    stages = tuple(sharp.get(e.name, e) for e in manifest.stages if e.kind != "sharp")
    return replace(manifest, stages=stages)


def broken(where: Path, what: str) -> InputError:
    return InputError(f"{where} cannot be used: {what}.", "Fetch or train this model again.", "bundle")


def entry_table(entry: StageEntry) -> dict[str, Any]:
    """A stage as the manifest has it; `source` stands there only where there is one, as in older bundles."""
    return {key: value for key, value in asdict(entry).items() if key != "source" or value is not None}


def parse_manifest(raw: dict[str, Any], where: Path) -> Manifest:
    from t2i.schema import build

    schema = raw.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(f"{where} was written by a newer t2i (schema {schema}).", "Upgrade t2i.", "bundle")
    try:
        manifest: Manifest = build(Manifest, raw)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r} is not {SCHEMA}")
        names = [e.name for e in manifest.stages]
        if len(set(names)) != len(names) or len({e.folder for e in manifest.stages}) != len(names):
            raise ValueError("two stages have the same name or folder")
        for entry in manifest.stages:
            if entry.kind not in KINDS:
                raise ValueError(f"stage {entry.name!r} is of the unknown kind {entry.kind!r}")
            _plain(entry.folder)
            if entry.source is not None:
                _plain(entry.source)
        for name in [n for n in (manifest.tokenizer, manifest.card) if n is not None]:
            _plain(name)
        for name in manifest.files:
            for part in name.split("/"):
                _plain(part)
        if list(manifest.sizes) != sorted(set(manifest.sizes)) or any(n <= 0 for n in manifest.sizes):
            raise ValueError("sizes must be positive and ascending")
    except ValueError as error:
        raise broken(where, str(error)) from error
    return manifest


def _plain(name: str) -> None:
    if not name or name in (".", "..") or any(c in name for c in "/\\:\0"):
        raise ValueError(f"{name!r} is not a plain file name")

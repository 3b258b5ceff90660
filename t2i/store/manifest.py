"""bundle.json, the manifest of a bundle: its stages in the order they run, their defaults, sizes and files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.sampling import SamplingConfig

SCHEMA = 1
MANIFEST, CONFIG, WEIGHTS, TOKENIZER, CARD = (
    "bundle.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
)
KINDS = ("clip", "text", "prior", "base", "gan", "dalle", "vae", "upsampler")
PLAIN_FIELDS = ("steps", "guidance", "sampler", "schedule", "threshold")
"""The fields of a SamplingConfig that stand in the table `defaults`; all others stand in `defaults.extra`."""
EXTRA_FIELDS = tuple(f.name for f in fields(SamplingConfig) if f.name not in PLAIN_FIELDS)


@dataclass(frozen=True)
class StageEntry:
    """One stage. kind: one of `KINDS`. folder: a plain name inside the bundle, or, for a shared stage, inside the
    bundle called `source`. defaults: how it is sampled unless a request says otherwise."""

    name: str
    kind: str
    folder: str
    defaults: SamplingConfig = field(default_factory=SamplingConfig)
    source: str | None = None

    @property
    def files(self) -> tuple[str, str]:
        """Its config and its weights, relative to the bundle that they lie in."""
        return f"{self.folder}/{CONFIG}", f"{self.folder}/{WEIGHTS}"


@dataclass(frozen=True)
class Manifest:
    """bundle.json.

    sizes: sides in pixels at which the cascade can stop, ascending; stop: the default one, None for the largest.
    files: relative path -> sha256, filled in by `write_bundle`. notes: free facts about the training.
    """

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
        """Side in pixels of the pictures if no size is asked for."""
        return self.stop if self.stop in self.sizes and self.stop else self.sizes[-1]

    def stage(self, name: str) -> StageEntry:
        """The stage called `name`. Raises KeyError."""
        for entry in self.stages:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def of_kind(self, kind: str) -> list[StageEntry]:
        """The stages of this kind, in the order they run."""
        return [entry for entry in self.stages if entry.kind == kind]

    def digest(self, entry: StageEntry) -> str:
        """sha256 of a stage's weights, or "" if the manifest does not list them."""
        return self.files.get(entry.files[1], "")


def broken(where: Path, what: str) -> InputError:
    """The error for a file of a bundle that cannot be used."""
    return InputError(f"{where} cannot be used: {what}.", "Fetch or train this model again.", "bundle")


def entry_table(entry: StageEntry) -> dict[str, Any]:
    """A stage as bundle.json has it. `source` stands there only where there is one, as in older bundles."""
    values = asdict(entry.defaults)
    extra = {name: values[name] for name in EXTRA_FIELDS}
    defaults: dict[str, Any] = {name: values[name] for name in PLAIN_FIELDS}
    defaults["extra"] = {name: value for name, value in extra.items() if value is not None}
    table = {"name": entry.name, "kind": entry.kind, "folder": entry.folder, "defaults": defaults}
    return table if entry.source is None else {**table, "source": entry.source}


def _parse_entry(raw: Any, path: str) -> StageEntry:
    """The inverse of `entry_table`. Raises ValueError naming the key."""
    from t2i.schema import as_table, values_of

    raw, where = dict(as_table(raw, path)), f"{path}.defaults"
    defaults = dict(as_table(raw.pop("defaults", {}), where))
    extra = dict(as_table(defaults.pop("extra", {}), f"{where}.extra"))
    values = values_of(SamplingConfig, defaults, where, PLAIN_FIELDS)
    values |= values_of(SamplingConfig, extra, f"{where}.extra", EXTRA_FIELDS)
    own = values_of(StageEntry, raw, path, ("name", "kind", "folder", "source"))
    return StageEntry(**own, defaults=SamplingConfig(**values))


def parse_manifest(raw: dict[str, Any], where: Path) -> Manifest:
    """The manifest in the table `raw`, read from the file `where`. Raises InputError (code `bundle`)."""
    from t2i.schema import build

    schema = raw.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(f"{where} was written by a newer t2i (schema {schema}).", "Upgrade t2i.", "bundle")
    try:
        stages = raw.get("stages")
        if isinstance(stages, list):
            raw = {**raw, "stages": [_parse_entry(stage, f"stages[{i}]") for i, stage in enumerate(stages)]}
        manifest: Manifest = build(Manifest, raw)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r} is not {SCHEMA}")
        names = [e.name for e in manifest.stages]
        if len(set(names)) != len(names) or len({e.folder for e in manifest.stages}) != len(names):
            raise ValueError("two stages have the same name or folder")
        for entry in manifest.stages:
            if entry.kind not in KINDS:
                raise ValueError(f"stage {entry.name!r} is of the unknown kind {entry.kind!r}")
            _plain(entry.name)
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

"""A bundle: one folder that holds a whole model and says everything about it.

    bundle.json            the manifest: family, stages, sizes, defaults, tool version, sha256 of every file
    tokenizer.json         the vocabulary
    README.md              the card: data, recipe, hours, scores, faults, attributions
    <stage>/config.json    how to build the stage's net, and the widths by which stages fit together
    <stage>/model.safetensors   float16 on disk, float32 once loaded

Reading is strict: unknown keys, missing files, other hashes, broken or non-finite weights are refused with a
sentence that names the file.  Nothing here imports torch until weights are read or written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.files import explain_os_error, write_together
from t2i.store.fit import check_fit, pixel_sizes
from t2i.store.tensors import decode, encode, strict_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Bundle",
    "Defaults",
    "Manifest",
    "StageEntry",
    "check_fit",
    "read_bundle",
    "update_stage",
    "write_bundle",
]

SCHEMA = 1
MANIFEST, CONFIG, WEIGHTS, TOKENIZER, CARD = (
    "bundle.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
)
KINDS = ("clip", "prior", "base", "upsampler")
MAX_JSON = 16 << 20
Stage = tuple[dict[str, Any], "dict[str, Tensor]"]


@dataclass(frozen=True)
class Defaults:
    """How a stage is sampled unless the user says otherwise; None where the stage has no such dial.

    threshold: (percentile in (0, 1], cap >= 1) of Imagen's dynamic thresholding.
    """

    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    threshold: tuple[float, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageEntry:
    """One stage: ``kind`` is clip, prior, base or upsampler; ``folder`` a plain name inside the bundle."""

    name: str
    kind: str
    folder: str
    defaults: Defaults = field(default_factory=Defaults)


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


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest and configs have been read and fit together; weights are read on
    demand."""

    path: Path
    manifest: Manifest
    configs: dict[str, dict[str, Any]]

    @property
    def digest(self) -> str:
        """A name for exactly these weights and settings: sha256 of the sorted file hashes and the
        defaults. The card is left out: it draws nothing."""
        stages = [asdict(entry) for entry in self.manifest.stages]
        files = sorted((name, digest) for name, digest in self.manifest.files.items() if name != self.manifest.card)
        text = json.dumps([files, stages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_stage(self, name: str) -> Stage:
        """(config, state dict in float32) of a stage, its hash verified. Raises InputError, or KeyError for
        no stage."""
        entry = self.manifest.stage(name)
        relative = f"{entry.folder}/{WEIGHTS}"
        return self.configs[name], decode(_read(self.path, relative, self.manifest.files), str(self.path / relative))

    def tokenizer_json(self) -> str | None:
        """The text of tokenizer.json, its hash verified; None for a bundle without one."""
        if self.manifest.tokenizer is None:
            return None
        return _text(_read(self.path, self.manifest.tokenizer, self.manifest.files), self.path / TOKENIZER)

    def card(self) -> str:
        """The text of the card."""
        return _text(_read(self.path, self.manifest.card, self.manifest.files), self.path / CARD)

    def verify(self) -> list[str]:
        """Read every file and every weight, raise InputError at the first fault, return the files read."""
        for relative in self.manifest.files:
            data = _read(self.path, relative, self.manifest.files)
            if relative.endswith(".safetensors"):
                decode(data, str(self.path / relative))
        return list(self.manifest.files)


def read_bundle(folder: Path | str) -> Bundle:
    """Read a bundle's manifest and configs; weights stay on disk until :meth:`Bundle.load_stage`.

    Raises InputError (code ``bundle``, or ``mismatch`` when the stages do not fit together).
    """
    folder = Path(folder)
    where = folder / MANIFEST
    if not where.is_file():
        hint = f"A model is a folder with a {MANIFEST} in it, as `t2i train` writes it."
        raise InputError(f"{folder} is not a bundle: it has no {MANIFEST}.", hint, "bundle")
    manifest = _manifest(_json(_read(folder, MANIFEST, None), where), where)
    configs = {}
    for entry in manifest.stages:
        relative = f"{entry.folder}/{CONFIG}"
        configs[entry.name] = _json(_read(folder, relative, manifest.files), folder / relative)
        if not (folder / entry.folder / WEIGHTS).is_file():
            raise _broken(folder / entry.folder / WEIGHTS, "it is missing")
    if manifest.tokenizer is not None and not (folder / manifest.tokenizer).is_file():
        raise _broken(folder / manifest.tokenizer, "it is missing")
    check_fit(manifest, configs)
    return Bundle(folder, manifest, configs)


def write_bundle(
    folder: Path | str, manifest: Manifest, stages: dict[str, Stage], tokenizer_json: str | None, card: str
) -> Bundle:
    """Write a bundle; the manifest's ``files`` and ``tool`` are filled in here. Returns it as read back.

    Every byte is on disk before the first name changes, and bundle.json changes last.  Raises InputError
    (code ``mismatch`` before anything is written, ``bundle`` for non-finite weights, ``output`` for a disk
    that refuses).
    """
    assert {e.name for e in manifest.stages} == set(stages), "the manifest and the stages given differ"
    check_fit(manifest, {name: config for name, (config, _) in stages.items()})
    folder = Path(folder)
    files: dict[str, bytes] = {CARD: card.encode()}
    if tokenizer_json is not None:
        files[TOKENIZER] = tokenizer_json.encode()
    for entry in manifest.stages:
        files.update(_stage_files(entry, stages[entry.name]))
    manifest = replace(manifest, card=CARD, tokenizer=TOKENIZER if tokenizer_json is not None else None, files={})
    return _commit(folder, manifest, files)


def update_stage(
    folder: Path | str,
    entry: StageEntry,
    stage: Stage,
    *,
    sizes: Iterable[int] | None = None,
    tokenizer_json: str | None = None,
    card: str | None = None,
    notes: dict[str, Any] | None = None,
) -> Bundle:
    """Put one stage into an existing bundle: replaced in its place, or appended in the order clip, prior,
    base, upsampler.

    ``sizes`` follow from the stages unless given; ``tokenizer_json`` and ``card`` replace the bundle's when
    given; ``notes`` are merged into it.  Raises as
    :func:`write_bundle`; the old weights of the stage itself are not read, so that a damaged stage can be
    replaced.
    """
    folder = Path(folder)
    where = folder / MANIFEST
    old = _manifest(_json(_read(folder, MANIFEST, None), where), where)
    configs = {
        e.name: _json(_read(folder, f"{e.folder}/{CONFIG}", old.files), folder / e.folder / CONFIG)
        for e in old.stages
        if e.name != entry.name
    }
    configs[entry.name] = stage[0]
    entries = [entry if e.name == entry.name else e for e in old.stages]
    if entry not in entries:
        entries.append(entry)
        entries.sort(key=lambda e: KINDS.index(e.kind))  # stable: upsamplers keep their order
    manifest = replace(
        old,
        stages=tuple(entries),
        sizes=(),
        notes={**old.notes, **(notes or {})},
        tokenizer=TOKENIZER if tokenizer_json is not None else old.tokenizer,
    )
    manifest = replace(manifest, sizes=tuple(sizes) if sizes is not None else pixel_sizes(manifest, configs))
    check_fit(manifest, configs)
    files = _stage_files(entry, stage)
    if tokenizer_json is not None:
        files[TOKENIZER] = tokenizer_json.encode()
    if card is not None:
        files[CARD] = card.encode()
    return _commit(folder, manifest, files)


def _stage_files(entry: StageEntry, stage: Stage) -> dict[str, bytes]:
    config, state = stage
    return {
        f"{entry.folder}/{CONFIG}": _dump(config),
        f"{entry.folder}/{WEIGHTS}": encode(state, f"stage {entry.name!r}"),
    }


def _commit(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> Bundle:
    from t2i import __version__

    hashes = {**manifest.files, **{name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    manifest = replace(manifest, tool=f"t2i {__version__}", files=dict(sorted(hashes.items())))
    data = _dump(asdict(manifest))
    _manifest(strict_json(data), folder / MANIFEST)  # what we write, we can read
    write_together({folder / n: d for n, d in {**files, MANIFEST: data}.items()}, last=folder / MANIFEST)
    return read_bundle(folder)


def _dump(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _broken(where: Path, what: str) -> InputError:
    return InputError(f"{where} cannot be used: {what}.", "Fetch or train this model again.", "bundle")


def _read(folder: Path, relative: str, files: dict[str, str] | None) -> bytes:
    """The bytes of one file of a bundle, their hash compared with the manifest's (None: the manifest
    itself)."""
    path = folder / relative
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would never end
            raise _broken(path, "it is not a file")
        if path.suffix == ".json" and path.stat().st_size > MAX_JSON:
            raise _broken(path, "it is too long")
        data = path.read_bytes()
    except FileNotFoundError:
        raise _broken(path, "it is missing") from None
    except OSError as error:
        raise _broken(path, explain_os_error(error)) from error
    if files is not None:
        if relative not in files:
            raise _broken(path, f"{MANIFEST} does not list it")
        if hashlib.sha256(data).hexdigest() != files[relative]:
            raise _broken(path, "it is not the file the model was written with (its sha256 differs)")
    return data


def _text(data: bytes, where: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _broken(where, "it is not text") from None


def _json(data: bytes, where: Path) -> dict[str, Any]:
    try:
        value = strict_json(data)
    except ValueError as error:
        raise _broken(where, f"it is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise _broken(where, "it is not a table")
    return value


def _manifest(raw: dict[str, Any], where: Path) -> Manifest:
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
        for name in [n for n in (manifest.tokenizer, manifest.card) if n is not None]:
            _plain(name)
        for name in manifest.files:
            for part in name.split("/"):
                _plain(part)
        if list(manifest.sizes) != sorted(set(manifest.sizes)) or any(n <= 0 for n in manifest.sizes):
            raise ValueError("sizes must be positive and ascending")
    except ValueError as error:
        raise _broken(where, str(error)) from error
    return manifest


def _plain(name: str) -> None:
    if not name or name in (".", "..") or any(c in name for c in "/\\:\0"):
        raise ValueError(f"{name!r} is not a plain file name")

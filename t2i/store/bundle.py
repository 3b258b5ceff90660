"""A bundle: one folder that holds a whole model and says everything about it.

    bundle.json            the manifest: family, stages, sizes, defaults, tool version, sha256 of every file
    tokenizer.json         the vocabulary
    README.md              the card: data, recipe, hours, scores, faults, attributions
    <stage>/config.json    how to build the stage's net, and the widths by which stages fit together
    <stage>/model.safetensors   float16 on disk, float32 once loaded

A stage may lie in another bundle, which the manifest names (`source`) and whose files it pins; see
`store/shared_stages.py`.

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
from t2i.jsonl import strict_json
from t2i.store.compatibility import check_compatible, pixel_sizes
from t2i.store.manifest import (
    CARD,
    CONFIG,
    KINDS,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    Manifest,
    StageEntry,
    broken,
    entry_table,
    parse_manifest,
)
from t2i.store.shared_stages import bundles_named, file_hashes, locate
from t2i.store.tensors import decode, encode

if TYPE_CHECKING:
    from torch import Tensor

MAX_JSON = 16 << 20
Stage = tuple[dict[str, Any], "dict[str, Tensor]"]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest and configs have been read and fit together; weights are read on
    demand. ``shared``: folder of a shared stage -> the bundle that it lies in."""

    path: Path
    manifest: Manifest
    configs: dict[str, dict[str, Any]]
    shared: dict[str, Path] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A name for exactly these weights and settings: sha256 of the sorted file hashes and the
        defaults. The card is left out: it draws nothing. So is where a shared stage lies."""
        stages = [entry_table(replace(entry, source=None)) for entry in self.manifest.stages]
        files = sorted((name, digest) for name, digest in self.manifest.files.items() if name != self.manifest.card)
        text = json.dumps([files, stages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_stage(self, name: str) -> Stage:
        """(config, state dict in float32) of a stage, its hash verified. Raises InputError, or KeyError for
        no stage."""
        entry = self.manifest.stage(name)
        relative = entry.files[1]
        place = self.place(relative)
        return self.configs[name], decode(_read(place, relative, self.manifest.files), str(place / relative))

    def place(self, relative: str) -> Path:
        """The bundle that a file of the manifest lies in: this one, but for shared stages."""
        return self.shared.get(relative.split("/")[0], self.path)

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
            place = self.place(relative)
            data = _read(place, relative, self.manifest.files)
            if relative.endswith(".safetensors"):
                decode(data, str(place / relative))
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
    manifest = parse_manifest(_json(_read(folder, MANIFEST, None), where), where)
    shared = _shared(folder, manifest)
    configs = _configs(folder, manifest, shared)
    for entry in manifest.stages:
        weights = shared.get(entry.folder, folder) / entry.files[1]
        if not weights.is_file():
            raise broken(weights, "it is missing")
    if manifest.tokenizer is not None and not (folder / manifest.tokenizer).is_file():
        raise broken(folder / manifest.tokenizer, "it is missing")
    check_compatible(manifest, configs)
    return Bundle(folder, manifest, configs, shared)


def write_bundle(
    folder: Path | str, manifest: Manifest, stages: dict[str, Stage], tokenizer_json: str | None, card: str
) -> Bundle:
    """Write a bundle; the manifest's ``files`` and ``tool`` are filled in here. Returns it as read back.

    ``stages`` are its own ones; of shared ones the manifest's ``files`` holds the pins.

    Every byte is on disk before the first name changes, and bundle.json changes last.  Raises InputError
    (code ``mismatch`` before anything is written, ``bundle`` for non-finite weights, ``output`` for a disk
    that refuses).
    """
    own = [e for e in manifest.stages if not e.source]
    assert {e.name for e in own} == set(stages), "the manifest and the stages given differ"
    folder = Path(folder)
    foreign = replace(manifest, stages=tuple(e for e in manifest.stages if e.source))
    configs = _configs(folder, foreign, _shared(folder, foreign))
    check_compatible(manifest, configs | {name: config for name, (config, _) in stages.items()})
    files: dict[str, bytes] = {CARD: card.encode()}
    if tokenizer_json is not None:
        files[TOKENIZER] = tokenizer_json.encode()
    for entry in own:
        files.update(_stage_files(entry, stages[entry.name]))
    pins = {name: manifest.files[name] for e in manifest.stages if e.source for name in e.files}
    manifest = replace(manifest, card=CARD, tokenizer=TOKENIZER if tokenizer_json is not None else None, files=pins)
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
    """Put one stage into an existing bundle: replaced in its place, or appended in the order clip, text, prior,
    base, upsampler.

    ``sizes`` follow from the stages unless given; ``tokenizer_json`` and ``card`` replace the bundle's when
    given; ``notes`` are merged into it.  Raises as
    :func:`write_bundle`; the old weights of the stage itself are not read, so that a damaged stage can be
    replaced.
    """
    old = _old(folder)
    others = replace(old, stages=tuple(e for e in old.stages if e.name != entry.name))
    configs = _configs(Path(folder), others, _shared(Path(folder), others)) | {entry.name: stage[0]}
    manifest = _joined(old, entry, configs, notes, sizes)
    if tokenizer_json is not None:
        manifest = replace(manifest, tokenizer=TOKENIZER)
    files = _stage_files(entry, stage)
    if tokenizer_json is not None:
        files[TOKENIZER] = tokenizer_json.encode()
    if card is not None:
        files[CARD] = card.encode()
    return _commit(Path(folder), manifest, files)


def share_stage(
    folder: Path | str, name: str, source: str, *, card: str | None = None, notes: dict[str, Any] | None = None
) -> Bundle:
    """Let an existing bundle use the stage ``name`` of the bundle called ``source``, with that one's defaults, instead
    of one of its own. Other stages that it shares with ``source`` are pinned anew: ``source`` may have been trained on.

    Raises InputError: no such bundle or stage (code ``bundle``), or one that does not fit (``mismatch``).
    """
    folder, old = Path(folder), _old(folder)
    names = [e.name for e in old.stages if e.source == source and e.name != name]
    shared = {each: find_shared(folder, each, source) for each in [*names, name]}
    entry, place = shared[name]
    files = file_hashes(place)
    pins = {file: str(files.get(file, "")) for e, _ in shared.values() for file in e.files}
    stages = tuple(shared[e.name][0] if e.name in shared else e for e in old.stages)
    pinned = replace(old, files={**old.files, **pins}, stages=stages)
    whole = replace(pinned, stages=tuple({e.name: e for e in (*stages, entry)}.values()))
    manifest = _joined(pinned, entry, _configs(folder, whole, _shared(folder, whole)), notes, None)
    return _commit(folder, manifest, {} if card is None else {CARD: card.encode()})


def find_shared(folder: Path | str, name: str, source: str) -> tuple[StageEntry, Path]:
    """The entry by which a bundle in ``folder`` would share a stage, and the bundle that it lies in. Raises InputError
    (code ``bundle``)."""
    found = bundles_named(Path(folder), source)
    if not found:
        hint = f"Put {source} beside it, or into $T2I_HOME/models."
        raise InputError(f"there is no model {source!r} to share the stage {name!r} with.", hint, "bundle")
    manifest = parse_manifest(_json(_read(found[0], MANIFEST, None), found[0] / MANIFEST), found[0] / MANIFEST)
    entries = [e for e in manifest.stages if e.name == name and e.source is None]
    if not entries:
        names = ", ".join(e.name for e in manifest.stages if e.source is None)
        raise InputError(f"the model {source!r} has no stage {name!r} of its own.", f"It has {names}.", "bundle")
    return replace(entries[0], source=source), found[0]


def _old(folder: Path | str) -> Manifest:
    where = Path(folder) / MANIFEST
    return parse_manifest(_json(_read(Path(folder), MANIFEST, None), where), where)


def _joined(
    old: Manifest,
    entry: StageEntry,
    configs: dict[str, dict[str, Any]],
    notes: dict[str, Any] | None,
    sizes: Iterable[int] | None,
) -> Manifest:
    """The manifest with a stage put in, its sizes by the configs. Raises InputError where the stages do not fit."""
    entries = [entry if e.name == entry.name else e for e in old.stages]
    if entry not in entries:
        entries.append(entry)
        entries.sort(key=lambda e: KINDS.index(e.kind))  # stable: upsamplers keep their order
    manifest = replace(old, stages=tuple(entries), sizes=(), notes={**old.notes, **(notes or {})})
    manifest = replace(manifest, sizes=tuple(sizes) if sizes is not None else pixel_sizes(manifest, configs))
    check_compatible(manifest, configs)
    return manifest


def _configs(folder: Path, manifest: Manifest, shared: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The configs of the manifest's stages, own ones and those that lie in other bundles, as `_shared` finds them."""
    configs = {}
    for entry in manifest.stages:
        place, name = shared.get(entry.folder, folder), entry.files[0]
        configs[entry.name] = _json(_read(place, name, manifest.files), place / name)
    return configs


def _shared(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Folder of each shared stage -> the bundle that it lies in. Raises InputError (code ``bundle``)."""
    out = {}
    for entry in manifest.stages:
        if entry.source:
            for name in entry.files:
                if name not in manifest.files:
                    raise broken(folder / MANIFEST, f"it does not list {name} of {entry.source!r}")
            pins = {name: manifest.files[name] for name in entry.files}
            out[entry.folder] = locate(folder, entry.name, entry.source, pins)
    return out


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
    data = _dump({**asdict(manifest), "stages": [entry_table(entry) for entry in manifest.stages]})
    parse_manifest(strict_json(data), folder / MANIFEST)  # what we write, we can read
    write_together({folder / n: d for n, d in {**files, MANIFEST: data}.items()}, last=folder / MANIFEST)
    return read_bundle(folder)


def _dump(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(folder: Path, relative: str, files: dict[str, str] | None) -> bytes:
    """The bytes of one file of a bundle, their hash compared with the manifest's (None: the manifest
    itself)."""
    path = folder / relative
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would never end
            raise broken(path, "it is not a file")
        if path.suffix == ".json" and path.stat().st_size > MAX_JSON:
            raise broken(path, "it is too long")
        data = path.read_bytes()
    except FileNotFoundError:
        raise broken(path, "it is missing") from None
    except OSError as error:
        raise broken(path, explain_os_error(error)) from error
    if files is not None:
        if relative not in files:
            raise broken(path, f"{MANIFEST} does not list it")
        if hashlib.sha256(data).hexdigest() != files[relative]:
            raise broken(path, "it is not the file the model was written with (its sha256 differs)")
    return data


def _text(data: bytes, where: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise broken(where, "it is not text") from None


def _json(data: bytes, where: Path) -> dict[str, Any]:
    try:
        value = strict_json(data)
    except ValueError as error:
        raise broken(where, f"it is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise broken(where, "it is not a table")
    return value

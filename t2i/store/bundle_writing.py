"""Writing a bundle, whole or a stage at a time: it is the old one or the new one whenever the program is killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.files import staged, unwritable, write_together
from t2i.jsonl import strict_json
from t2i.store.bundle import Bundle, Stage, read_bundle
from t2i.store.bundle_files import read_configs, read_manifest
from t2i.store.compatibility import ENCODERS, check_compatible, pixel_sizes
from t2i.store.manifest import (
    CARD,
    CONFIG,
    KINDS,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    Manifest,
    StageEntry,
    entry_table,
    parse_manifest,
)
from t2i.store.shared_stages import file_hashes, find_shared, shared_places
from t2i.store.tensors import encode

if TYPE_CHECKING:
    from torch import Tensor


def write_bundle(
    folder: Path | str, manifest: Manifest, stages: dict[str, Stage], tokenizer_json: str | None, card: str
) -> Bundle:
    """Write a bundle and read it back. The manifest's `files` and `tool` are filled in here.

    stages: config and weights of the bundle's own stages; the hashes of shared ones stand in `manifest.files`.

    The write is atomic: the bundle is the old one or the new one, whenever the program is killed. Raises InputError
    (code `mismatch` before anything is written, `bundle` for non-finite weights, `output` if the disk refuses).
    """
    own = [e for e in manifest.stages if not e.source]
    assert {e.name for e in own} == set(stages), "the manifest and the stages given differ"
    folder = Path(folder)
    foreign = replace(manifest, stages=tuple(e for e in manifest.stages if e.source))
    configs = read_configs(folder, foreign, shared_places(folder, foreign))
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
    """Replace a stage of a bundle, or add it in the order of `KINDS`.

    sizes: None to take them from the stages. tokenizer_json, card: replace the bundle's if given. notes: merged into
    the bundle's. The stage's old weights are not read, so a damaged stage can be replaced. Raises as `write_bundle`.
    """
    old = read_manifest(Path(folder))
    others = replace(old, stages=tuple(e for e in old.stages if e.name != entry.name))
    configs = read_configs(Path(folder), others, shared_places(Path(folder), others)) | {entry.name: stage[0]}
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
    """Make a bundle use the stage `name` of the bundle called `source`, with its defaults, instead of its own.

    The hashes of other stages shared with `source` are updated too, because `source` may have been trained further. A
    text encoder brings its tokenizer, of which the bundle keeps a copy.

    Raises InputError: no such bundle or stage (code `bundle`), or one that does not fit (`mismatch`).
    """
    folder = Path(folder)
    old = read_manifest(folder)
    names = [e.name for e in old.stages if e.source == source and e.name != name]
    shared = {each: find_shared(folder, each, source) for each in [*names, name]}
    entry, place = shared[name]
    files = file_hashes(place)
    pins = {file: str(files.get(file, "")) for e, _ in shared.values() for file in e.files}
    stages = tuple(shared[e.name][0] if e.name in shared else e for e in old.stages)
    pinned = replace(old, files={**old.files, **pins}, stages=stages)
    whole = replace(pinned, stages=tuple({e.name: e for e in (*stages, entry)}.values()))
    manifest = _joined(pinned, entry, read_configs(folder, whole, shared_places(folder, whole)), notes, None)
    written = {} if card is None else {CARD: card.encode()}
    if entry.kind in ENCODERS and (tokenizer := read_bundle(place).tokenizer_json()) is not None:
        manifest, written[TOKENIZER] = replace(manifest, tokenizer=TOKENIZER), tokenizer.encode()
    return _commit(folder, manifest, written)


def stage_hash(weights: dict[str, Tensor]) -> str:
    """The sha256 of the file that `write_bundle` would make of a stage's weights; "" for weights that are not finite,
    of which it makes none."""
    try:
        return hashlib.sha256(encode(weights, "a stage")).hexdigest()
    except InputError:
        return ""


def _joined(
    old: Manifest,
    entry: StageEntry,
    configs: dict[str, dict[str, Any]],
    notes: dict[str, Any] | None,
    sizes: Iterable[int] | None,
) -> Manifest:
    """The manifest with a stage replaced or added, and its sizes. Raises InputError if the stages do not fit."""
    entries = [entry if e.name == entry.name else e for e in old.stages]
    if entry not in entries:
        entries.append(entry)
        entries.sort(key=lambda e: KINDS.index(e.kind))  # stable: upsamplers keep their order
    manifest = replace(old, stages=tuple(entries), sizes=(), notes={**old.notes, **(notes or {})})
    manifest = replace(manifest, sizes=tuple(sizes) if sizes is not None else pixel_sizes(manifest, configs))
    check_compatible(manifest, configs)
    return manifest


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
    parse_manifest(strict_json(data), folder / MANIFEST)  # checks that it can be read again
    finish_write(folder)  # else its files would be overwritten while the old manifest still lists them
    write_together({folder / n: d for n, d in {**files, MANIFEST: data}.items()}, index=folder / MANIFEST)
    return read_bundle(folder)


def finish_write(folder: Path) -> None:
    """Move the files that a killed `write_bundle` or `update_stage` left staged to their places. Without it a bundle
    can be read as well. Raises InputError (code `bundle` for a broken manifest, `output` if the disk refuses)."""
    if not (folder / MANIFEST).is_file():
        return
    for relative, digest in read_manifest(folder).files.items():
        waiting = staged(folder / relative)
        try:
            if waiting.is_file():
                if hashlib.sha256(waiting.read_bytes()).hexdigest() == digest:
                    waiting.replace(folder / relative)
                else:  # of a write that was cut off before it counted
                    waiting.unlink()
        except OSError as error:
            raise unwritable(error, folder) from error


def _dump(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

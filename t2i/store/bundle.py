"""A bundle: one folder that holds a whole model.

    bundle.json            the manifest: family, stages, sizes, defaults, tool version, sha256 of every file
    tokenizer.json         the vocabulary
    README.md              the card: data, recipe, hours, scores, faults, attributions
    <stage>/config.json    how to build the stage's network, and the widths by which stages fit together
    <stage>/model.safetensors   the weights: float16 on disk, float32 once loaded

A stage may lie in another bundle, which the manifest names (`source`) and whose files it pins by their sha256; see
`store/shared_stages.py`.

Reading is strict: unknown keys, missing files, wrong hashes, broken or non-finite weights are InputErrors that name the
file. torch is imported only when weights are read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.files import explain_os_error, staged, unwritable, write_together
from t2i.jsonl import strict_json
from t2i.sampling import Size
from t2i.store.compatibility import ENCODERS, check_compatible, pixel_sizes
from t2i.store.completeness import check_complete, takes_diffusion
from t2i.store.load_options import LoadOptions
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
from t2i.store.shared_stages import bundles_named, file_hashes, locate, present
from t2i.store.tensors import Layout, check_safetensors, decode, encode

if TYPE_CHECKING:
    from torch import Tensor

MAX_JSON = 16 << 20
#: what starts from a picture, which takes a base
FROM_PICTURES = ("--from-text", "--init", "--mask-text", "t2i inpaint", "t2i inpaint without a prompt", "t2i vary")
Stage = tuple[dict[str, Any], "dict[str, Tensor]"]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. Manifest and configs have been read and checked; weights are read on demand.

    configs: stage name -> its config.json. shared: folder of a shared stage -> the bundle that it lies in.
    """

    path: Path
    manifest: Manifest
    configs: dict[str, dict[str, Any]]
    shared: dict[str, Path] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identifies weights and defaults: sha256 over the sorted file hashes and the stages' tables.

        Left out are the card and where a shared stage lies, which change no picture.
        """
        stages = [entry_table(replace(entry, source=None)) for entry in self.manifest.stages]
        files = sorted((name, digest) for name, digest in self.manifest.files.items() if name != self.manifest.card)
        text = json.dumps([files, stages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_stage(self, name: str) -> Stage:
        """(config, state dict in float32) of a stage, verified. Raises InputError; KeyError without the stage."""
        entry = self.manifest.stage(name)
        relative = entry.files[1]
        place = self.place(relative)
        return self.configs[name], decode(_read(place, relative, self.manifest.files), str(place / relative))

    def layout(self, name: str) -> dict[str, Layout]:
        """Tensor -> type and shape, of a stage's weights. The file is verified, the tensors are not built. Raises
        InputError; KeyError without the stage."""
        relative = self.manifest.stage(name).files[1]
        place = self.place(relative)
        return check_safetensors(_read(place, relative, self.manifest.files), str(place / relative))

    def place(self, relative: str) -> Path:
        """The folder of the bundle that a file lies in: this one, or for a shared stage another."""
        return self.shared.get(relative.split("/")[0], self.path)

    def tokenizer_json(self) -> str | None:
        """The text of tokenizer.json, the hash verified; None for a bundle without one."""
        if self.manifest.tokenizer is None:
            return None
        return _text(_read(self.path, self.manifest.tokenizer, self.manifest.files), self.path / TOKENIZER)

    def weights(self, stages: list[str], *, text: bool = True) -> dict[str, str]:
        """sha256 of the weights of `stages`, by name, and of the text encoder unless no text is read."""
        kinds = ENCODERS if text else ()
        used = [entry for entry in self.manifest.stages if entry.kind in kinds or entry.name in stages]
        return {entry.name: self.manifest.digest(entry) for entry in used}

    def read_size(self, text: str) -> Size:
        """The size that --size names. Raises UsageError unless the cascade can stop there."""
        made = [str(size) for size in self.manifest.sizes]
        if text not in made:
            what = f"--size {text}: the model {self.manifest.name!r} stops at {', '.join(made)}."
            raise UsageError(what, "Choose one of these.")
        return int(text)

    def check_options(self, options: dict[str, str]) -> None:
        """Raise InputError (code ``bundle``) for an unfinished model, UsageError for a negative prompt where nothing
        is guided. Other settings are checked as they are read."""
        check_complete(self.manifest, self.configs)
        if options.get("negative", "").strip():
            self._check_diffuses("--negative")

    def check_load(self, options: LoadOptions) -> None:
        """Raise UsageError for a way of loading that is for the models of others."""
        for option in options.given():
            what = f"{option}: {self.manifest.name} is a model of ours, and takes none."
            raise UsageError(what, "It is for models in diffusers' layout, see docs/open-checkpoints.md.")

    def check_can(self, feature: str) -> None:
        """Raise UsageError for what takes a base where there is none. Whether the other stages are there that a feature
        needs is checked by the command."""
        if feature in FROM_PICTURES:
            self._check_diffuses(feature)

    def _check_diffuses(self, feature: str) -> None:
        if self.manifest.of_kind("dalle"):
            raise takes_diffusion(self.manifest.name, feature)

    def card(self) -> str:
        """The text of the card."""
        return _text(_read(self.path, self.manifest.card, self.manifest.files), self.path / CARD)

    def verify(self) -> list[str]:
        """Read every file and every weight. Returns the files; raises InputError at the first fault."""
        for relative in self.manifest.files:
            place = self.place(relative)
            data = _read(place, relative, self.manifest.files)
            if relative.endswith(".safetensors"):
                decode(data, str(place / relative))
        return list(self.manifest.files)


def read_bundle(folder: Path | str) -> Bundle:
    """Read a bundle's manifest and configs; weights stay on disk until `Bundle.load_stage`.

    Raises InputError (code ``bundle``; ``mismatch`` if the stages do not fit together).
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
        if not present(weights):
            raise broken(weights, "it is missing")
    if manifest.tokenizer is not None and not present(folder / manifest.tokenizer):
        raise broken(folder / manifest.tokenizer, "it is missing")
    check_compatible(manifest, configs)
    return Bundle(folder, manifest, configs, shared)


def write_bundle(
    folder: Path | str, manifest: Manifest, stages: dict[str, Stage], tokenizer_json: str | None, card: str
) -> Bundle:
    """Write a bundle and read it back. The manifest's `files` and `tool` are filled in here.

    stages: config and weights of the bundle's own stages; the hashes of shared ones stand in `manifest.files`.

    The write is atomic: the bundle is the old one or the new one, whenever the program is killed. Raises InputError
    (code ``mismatch`` before anything is written, ``bundle`` for non-finite weights, ``output`` if the disk refuses).
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
    """Replace a stage of a bundle, or add it in the order of `KINDS`.

    sizes: None to take them from the stages. tokenizer_json, card: replace the bundle's if given. notes: merged into
    the bundle's. The stage's old weights are not read, so a damaged stage can be replaced. Raises as `write_bundle`.
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
    """Make a bundle use the stage `name` of the bundle called `source`, with its defaults, instead of its own.

    The hashes of other stages shared with `source` are updated too, because `source` may have been trained further.

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


def stage_hash(weights: dict[str, Tensor]) -> str:
    """The sha256 of the file that `write_bundle` would make of a stage's weights; "" for weights that are not finite,
    of which it makes none."""
    try:
        return hashlib.sha256(encode(weights, "a stage")).hexdigest()
    except InputError:
        return ""


def find_shared(folder: Path | str, name: str, source: str) -> tuple[StageEntry, Path]:
    """The entry with which a bundle in `folder` would share the stage `name` of `source`, and the path of `source`.

    Raises InputError (code ``bundle``).
    """
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
    """The manifest with a stage replaced or added, and its sizes. Raises InputError if the stages do not fit."""
    entries = [entry if e.name == entry.name else e for e in old.stages]
    if entry not in entries:
        entries.append(entry)
        entries.sort(key=lambda e: KINDS.index(e.kind))  # stable: upsamplers keep their order
    manifest = replace(old, stages=tuple(entries), sizes=(), notes={**old.notes, **(notes or {})})
    manifest = replace(manifest, sizes=tuple(sizes) if sizes is not None else pixel_sizes(manifest, configs))
    check_compatible(manifest, configs)
    return manifest


def _configs(folder: Path, manifest: Manifest, shared: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Stage name -> its config.json. shared: as from `_shared`."""
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
    parse_manifest(strict_json(data), folder / MANIFEST)  # checks that it can be read again
    finish_write(folder)  # else its files would be overwritten while the old manifest still lists them
    write_together({folder / n: d for n, d in {**files, MANIFEST: data}.items()}, index=folder / MANIFEST)
    return read_bundle(folder)


def finish_write(folder: Path) -> None:
    """Move the files that a killed `write_bundle` or `update_stage` left staged to their places. Without it a bundle
    can be read as well. Raises InputError (code ``bundle`` for a broken manifest, ``output`` if the disk refuses)."""
    if not (folder / MANIFEST).is_file():
        return
    for relative, digest in _old(folder).files.items():
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


def _read(folder: Path, relative: str, files: dict[str, str] | None) -> bytes:
    """The bytes of a file of a bundle. files: the manifest's hashes to verify it by; None for the manifest itself."""
    path = folder / relative
    if files is None:
        return _contents(path)
    if relative not in files:
        raise broken(path, f"{MANIFEST} does not list it")
    if not present(path):
        raise broken(path, "it is missing")
    for place in (path, staged(path), path):  # the second if a write was cut off, the last if it goes on meanwhile
        if os.path.lexists(place):
            data = _contents(place)
            if hashlib.sha256(data).hexdigest() == files[relative]:
                return data
    raise broken(path, "it is not the file the model was written with (its sha256 differs)")


def _contents(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would never end
            raise broken(path, "it is not a file")
        if path.suffix == ".json" and path.stat().st_size > MAX_JSON:
            raise broken(path, "it is too long")
        return path.read_bytes()
    except FileNotFoundError:
        raise broken(path, "it is missing") from None
    except OSError as error:
        raise broken(path, explain_os_error(error)) from error


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

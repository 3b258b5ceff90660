"""Stages that lie in another bundle: the manifest names that bundle and pins the stage's files by their sha256.

The other bundle is looked for beside the one that shares its stage, then in the folders of `store/search_path.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.jsonl import strict_json
from t2i.store.bundle_files import present, read_manifest
from t2i.store.manifest import MANIFEST, Manifest, StageEntry, broken
from t2i.store.search_path import roots


def bundles_named(folder: Path, source: str) -> list[Path]:
    """The bundles called `source`, one beside `folder` first."""
    beside = folder.absolute().parent
    found = dict.fromkeys(root / source for root in (beside, *(root for _, root in roots())))
    return [place for place in found if (place / MANIFEST).is_file() and place != folder.absolute()]


def file_hashes(place: Path) -> dict[str, Any]:
    """Relative path -> sha256, from a bundle's manifest; empty if the manifest cannot be read."""
    try:
        files = strict_json((place / MANIFEST).read_bytes())["files"]
        return files if isinstance(files, dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def locate(folder: Path, stage: str, source: str, pinned: Mapping[str, str]) -> Path:
    """The bundle called `source` whose files have the hashes `pinned` (relative path -> sha256).

    folder, stage: the bundle that shares the stage, and the stage's name. Raises InputError (code `bundle`) if there
    is no such bundle, or only one with other weights.
    """
    found = bundles_named(folder, source)
    for place in found:
        files = file_hashes(place)
        if all(files.get(name) == digest and present(place / name) for name, digest in pinned.items()):
            return place
    what = f"{folder} shares its stage {stage!r} with the model {source!r}, "
    if not found:
        hint = f"Put {source} beside it, or into $T2I_HOME/models."
        raise InputError(f"{what}which is not here.", hint, "bundle")
    what += f"whose files in {found[0]} are others now (their sha256 differs)."
    raise InputError(what, f"Fetch the {source} that it was made with, or train the stage.", "bundle")


def shared_places(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Folder of each shared stage -> the bundle that it lies in. Raises InputError (code `bundle`)."""
    out = {}
    for entry in manifest.stages:
        if entry.source:
            for name in entry.files:
                if name not in manifest.files:
                    raise broken(folder / MANIFEST, f"it does not list {name} of {entry.source!r}")
            pins = {name: manifest.files[name] for name in entry.files}
            out[entry.folder] = locate(folder, entry.name, entry.source, pins)
    return out


def find_shared(folder: Path | str, name: str, source: str) -> tuple[StageEntry, Path]:
    """The entry with which a bundle in `folder` would share the stage `name` of `source`, and the path of `source`.

    Raises InputError (code `bundle`).
    """
    found = bundles_named(Path(folder), source)
    if not found:
        hint = f"Put {source} beside it, or into $T2I_HOME/models."
        raise InputError(f"there is no model {source!r} to share the stage {name!r} with.", hint, "bundle")
    manifest = read_manifest(found[0])
    entries = [e for e in manifest.stages if e.name == name and e.source is None]
    if not entries:
        names = ", ".join(e.name for e in manifest.stages if e.source is None)
        raise InputError(f"the model {source!r} has no stage {name!r} of its own.", f"It has {names}.", "bundle")
    return replace(entries[0], source=source), found[0]

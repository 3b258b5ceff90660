"""Stages that lie in another bundle: the manifest names that bundle and pins the stage's files by their sha256.

The other bundle is looked for beside the one that shares its stage, then in the folders of `store/search_path.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import staged
from t2i.jsonl import strict_json
from t2i.store.manifest import MANIFEST
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


def present(path: Path) -> bool:
    """Whether a file of a bundle is there, be it that a write was cut off before it came to its place."""
    return path.exists() or staged(path).exists()


def locate(folder: Path, stage: str, source: str, pinned: Mapping[str, str]) -> Path:
    """The bundle called `source` whose files have the hashes `pinned` (relative path -> sha256).

    folder, stage: the bundle that shares the stage, and the stage's name. Raises InputError (code ``bundle``) if there
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

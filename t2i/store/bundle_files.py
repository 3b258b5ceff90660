"""The files of a bundle: found also where a write was cut off, and compared with the hashes of the manifest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from t2i.files import explain_os_error, staged
from t2i.jsonl import strict_json
from t2i.store.manifest import MANIFEST, Manifest, broken, parse_manifest

MAX_JSON = 16 << 20


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in a folder. Raises InputError (code `bundle`)."""
    where = folder / MANIFEST
    return parse_manifest(as_table(read_file(folder, MANIFEST, None), where), where)


def read_configs(folder: Path, manifest: Manifest, shared: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Stage name -> its config.json. shared: as from `shared_places`."""
    configs = {}
    for entry in manifest.stages:
        place, name = shared.get(entry.folder, folder), entry.files[0]
        configs[entry.name] = as_table(read_file(place, name, manifest.files), place / name)
    return configs


def present(path: Path) -> bool:
    """Whether a file of a bundle is there, be it that a write was cut off before it came to its place."""
    return path.exists() or staged(path).exists()


def read_file(folder: Path, relative: str, files: dict[str, str] | None) -> bytes:
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


def as_text(data: bytes, where: Path) -> str:
    """The text of a file. Raises InputError (code `bundle`)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise broken(where, "it is not text") from None


def as_table(data: bytes, where: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises InputError (code `bundle`)."""
    try:
        value = strict_json(data)
    except ValueError as error:
        raise broken(where, f"it is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise broken(where, "it is not a table")
    return value

"""What lies in the output folders already: pictures known by their key, and a manifest in each folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2i.errors import InputError, T2IError
from t2i.files import append_line, explain_os_error, variant

MANIFEST = "manifest.jsonl"


@dataclass
class Found:
    """What is known of a name: how many of its variants have been looked at, and the keys found there."""

    looked: int = 0
    keys: dict[str, Path] = field(default_factory=dict)


class Shelf:
    """The pictures under a name and its variants ``-2``, ``-3`` …, each looked at once a run."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._found: dict[Path, Found] = {}

    def find(self, path: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
        """(file, its record) of the picture with ``key`` under ``path`` or a variant; None where there is none.

        A picture that is there but damaged is warned of, and left as it is.
        """
        from t2i.media.images import load_image, read_metadata

        found = self._found.get(path) or Found()
        while key not in found.keys:
            candidate = variant(path, found.looked + 1)
            if not candidate.exists():
                return None
            self._found[path] = found
            found.looked += 1
            try:
                record = read_metadata(candidate)["t2i"]
            except T2IError as error:
                self.warn(f"{error.message} It is left as it is.")
                continue
            if record is not None and isinstance(record.get("key"), str):
                found.keys[record["key"]] = candidate
        try:
            # its marks alone do not prove that its pixels are whole
            load_image(found.keys[key])
            return found.keys[key], read_metadata(found.keys[key])["t2i"] or {}
        except T2IError as error:
            self.warn(f"{error.message} It is left as it is and drawn again beside it.")
            del found.keys[key]
            return self.find(path, key) if found.looked else None

    def free(self, path: Path) -> Path:
        """The first variant of ``path`` that has not been looked at; something may be there all the same."""
        found = self._found.get(path)
        return variant(path, found.looked + 1 if found else 1)

    def put(self, path: Path, file: Path, key: str) -> None:
        """``file``, the free variant of ``path``, now holds the picture with ``key``."""
        found = self._found.get(path)
        if found is not None:  # a name without variants is not worth its memory
            found.looked += 1
            found.keys[key] = file


class Manifests:
    """``manifest.jsonl`` of each output folder: a line a picture, appended when the picture is whole on disk.

    The pictures are the truth: a line that is missing because a run was killed is added when the picture is met
    again. Of several lines for a path the last counts.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._listed: dict[Path, set[int]] = {}

    def add(self, path: Path, record: dict[str, Any]) -> None:
        """Write the line of a picture, unless it is there. Raises InputError (code ``output``)."""
        if not self.wanted:
            return
        folder, entry = path.parent, hash((path.name, str(record.get("key"))))
        if folder not in self._listed:
            self._listed[folder] = _listed(folder / MANIFEST)
        if entry in self._listed[folder]:
            return
        append_line(folder / MANIFEST, json.dumps({"path": path.name, **record}, allow_nan=False).encode())
        self._listed[folder].add(entry)


def _listed(path: Path) -> set[int]:
    """hash((file name, key)) of every line that can be read: of ten thousand the hashes alone are kept."""
    listed = set()
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    table = json.loads(line)
                    listed.add(hash((str(table["path"]), str(table["key"]))))
                except (ValueError, LookupError, TypeError, RecursionError):
                    continue  # torn by a kill, or somebody else's
    except FileNotFoundError:
        pass
    except OSError as error:
        what = f"cannot read {path}: {explain_os_error(error)}."
        raise InputError(what, "Choose another place with -o.", "output") from error
    return listed

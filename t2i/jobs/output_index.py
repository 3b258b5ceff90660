"""The pictures that exist in the output folders, found by their content key."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2i.errors import T2IError
from t2i.files import variant


@dataclass
class KnownFiles:
    """What is known of a name. looked: how many of its variants were read; keys: key -> file among these."""

    looked: int = 0
    keys: dict[str, Path] = field(default_factory=dict)


class OutputIndex:
    """The pictures under a name and its variants `-2`, `-3` …. Each file is read once a run."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._found: dict[Path, KnownFiles] = {}

    def find(self, path: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
        """(file, its record) of the picture with `key` under `path` or a variant of it; None if there is none.

        Its pixels are decoded, so that a broken file is never taken. A broken file is warned of and left alone.
        """
        from t2i.media.image_file import ImageFile
        from t2i.media.images import read_metadata

        found = self._found.get(path) or KnownFiles()
        while key not in found.keys:
            candidate = variant(path, found.looked + 1)
            if not os.path.lexists(candidate):  # a link to nothing, or to itself, takes the name too
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
            file = ImageFile.read(found.keys[key])
            file.decode()  # its metadata alone does not prove that its pixels are whole
            return found.keys[key], file.metadata()["t2i"] or {}
        except T2IError as error:
            self.warn(f"{error.message} It is left as it is and drawn again beside it.")
            del found.keys[key]
            return self.find(path, key) if found.looked else None

    def free(self, path: Path) -> Path:
        """The first variant of `path` that was not read yet. Another process may have written it meanwhile."""
        found = self._found.get(path)
        return variant(path, found.looked + 1 if found else 1)

    def put(self, path: Path, file: Path, key: str) -> None:
        """Enter `file`, the free variant of `path`, as the picture with `key`."""
        found = self._found.get(path)
        if found is not None:  # a name without variants is not worth its memory
            found.looked += 1
            found.keys[key] = file

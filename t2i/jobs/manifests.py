"""`manifest.jsonl` in each output folder: a line for each picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import append_line, explain_os_error

MANIFEST = "manifest.jsonl"


class Manifests:
    """Appends a line for each picture once its file is complete.

    The files are the truth. A line that is missing, because a run was killed, is added by the next run that finds the
    picture. Of several lines for a path the last counts.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._listed: dict[Path, set[int]] = {}

    def add(self, path: Path, record: dict[str, Any]) -> None:
        """Write the line of a picture, unless the manifest has it. Raises InputError (code ``output``)."""
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
    """hash((file name, key)) of every line that can be read. Only hashes, to stay small for ten thousand lines."""
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

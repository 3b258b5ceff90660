"""`manifest.jsonl` in each output folder: a line for each picture."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from t2i.files import append_line

MANIFEST = "manifest.jsonl"
MAX_LINE = 1 << 20  # bytes; a longer line is none of ours


class Manifests:
    """Appends a line for each picture once its file is complete; one line, also while other runs write into the folder.

    The files are the truth. A line that is missing, because a run was killed, is added by the next run that finds the
    picture. Of several lines for a path (it was overwritten) the last counts.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._listed: dict[Path, _Listed] = {}

    def add(self, path: Path, record: dict[str, Any]) -> None:
        """Write the line of a picture, unless the manifest has it. Raises InputError (code `output`)."""
        if not self.wanted:
            return
        folder, entry = path.parent, hash((path.name, str(record.get("key"))))
        listed = self._listed.setdefault(folder, _Listed())
        if entry in listed.entries:
            return

        def known(file: IO[bytes]) -> bool:
            listed.read_on(file)
            return entry in listed.entries

        line = json.dumps({"path": path.name, **record}, allow_nan=False).encode()
        append_line(folder / MANIFEST, line, known)


@dataclass
class _Listed:
    """What was read of a manifest. entries: hash((file name, key)) of each line, to stay small for ten thousand lines;
    end: where the part ends that was read."""

    entries: set[int] = field(default_factory=set)
    end: int = 0

    def read_on(self, file: IO[bytes]) -> None:
        """Read the lines that were added since."""
        file.seek(self.end)
        while line := file.readline(MAX_LINE):
            if not line.endswith(b"\n") and len(line) < MAX_LINE:
                break  # the end, torn by a kill
            self.end += len(line)
            try:
                table = json.loads(line)
                self.entries.add(hash((str(table["path"]), str(table["key"]))))
            except (ValueError, LookupError, TypeError, RecursionError):
                continue  # torn by a kill, or somebody else's

"""A cache of what the networks found in each picture, in one SQLite file.

The key is the sha256 of the picture file and of the networks. A second run, a gate after a baseline, or a set that has
grown then runs the networks on new pictures only.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.score.pixel_stats import PixelStats
from t2i.world.reading import Detection, Reading


@dataclass(frozen=True)
class PictureFeatures:
    """What was measured in one picture. features: (D,) float32. thumb: (32, 32, 3). reading: by the judge, if it
    ran."""

    pixels: PixelStats
    features: NDArray[np.float32]
    thumb: NDArray[np.uint8]
    reading: Reading | None


@dataclass
class FeatureCache:
    """Picture features by key. path None: nothing is stored. A file that cannot be used counts as empty."""

    path: Path | None
    _db: sqlite3.Connection | None = field(default=None, repr=False)

    def open(self) -> None:
        if self.path is None or self._db is not None:
            return
        if self.path.exists() and not self.path.is_file():  # a pipe would block
            return
        with suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=5)
            self._db.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, data BLOB)")

    def get(self, key: str) -> PictureFeatures | None:
        if self._db is None:
            return None
        with suppress(Exception):  # numpy, zipfile and zlib raise nearly anything for damaged bytes
            row = self._db.execute("SELECT data FROM seen WHERE key = ?", (key,)).fetchone()
            return _unpack(row[0]) if row else None
        return None

    def put(self, rows: Sequence[tuple[str, PictureFeatures]]) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error), self._db:
                self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", [(k, _pack(f)) for k, f in rows])

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _pack(found: PictureFeatures) -> bytes:
    reading = asdict(found.reading) if found.reading else None
    facts: dict[str, Any] = {"pixels": asdict(found.pixels), "reading": reading}
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(file, features=found.features, thumb=found.thumb, facts=text)
    return file.getvalue()


def _unpack(data: bytes) -> PictureFeatures:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        raw, reading = facts["reading"], None
        if raw is not None:
            objects = tuple(Detection(**detection) for detection in raw["objects"])
            reading = Reading(objects, raw["place"], raw["place_score"], raw["shade"])
        return PictureFeatures(PixelStats(**facts["pixels"]), arrays["features"], arrays["thumb"], reading)

"""Looking at pictures: decoded ahead by threads, seen by the networks in batches, remembered by content.

What a network saw in a file is kept in one SQLite file under (sha256 of the file, recipe of the networks), so that a
second run, a gate after a baseline, or a set that has grown reads only what is new.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2i.errors import T2IError
from t2i.media.images import load_image, to_tensor
from t2i.score.extract import Extractor, fit
from t2i.score.listing import Picture
from t2i.score.pixels import Pixels, look
from t2i.score.recipe import Network
from t2i.world.judge import SIZE, Judge
from t2i.world.reading import Detection, Reading

VERSION = 1  # of what is remembered
AHEAD = 3  # batches that are decoded before they are needed


@dataclass(frozen=True)
class Seen:
    """One picture as it was seen. features (D,) float32; thumb (16, 16, 3); reading: the judge's, if one looked."""

    pixels: Pixels
    features: NDArray[np.float32]
    thumb: NDArray[np.uint8]
    reading: Reading | None


@dataclass
class Clock:
    """Where the time of a measurement went, in seconds of wall time."""

    total: float = 0.0
    networks: float = 0.0
    pictures: int = 0
    remembered: int = 0

    @property
    def share(self) -> float:
        """Of the whole time, what the networks took."""
        return self.networks / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class _Prepared:
    pixels: Pixels
    thumb: NDArray[np.uint8]
    input: Tensor
    judged: Tensor | None


@dataclass
class Memory:
    """What was seen before. path None: nothing is kept. A file that cannot be used is as good as none."""

    path: Path | None
    _db: sqlite3.Connection | None = field(default=None, repr=False)

    def open(self) -> None:
        if self.path is None or self._db is not None:
            return
        with suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=5)
            self._db.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, data BLOB)")

    def get(self, key: str) -> Seen | None:
        if self._db is None:
            return None
        with suppress(sqlite3.Error, zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError, EOFError):
            row = self._db.execute("SELECT data FROM seen WHERE key = ?", (key,)).fetchone()
            return _unpack(row[0]) if row else None
        return None

    def put(self, rows: Sequence[tuple[str, Seen]]) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error), self._db:
                self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", [(k, _pack(s)) for k, s in rows])

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


@dataclass
class Eyes:
    """The networks that look. judge None: nobody reads the scenes."""

    extractor: Extractor
    judge: Judge | None = None
    judged_by: Network | None = None
    batch: int = 64
    threads: int = 2

    @property
    def name(self) -> str:
        """Equal names see the same."""
        facts = [VERSION, asdict(self.extractor.network), asdict(self.judged_by) if self.judged_by else None]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def prepare(self, path: Path) -> _Prepared:
        image = load_image(path)
        pixels, thumb = look(image)
        judged = to_tensor(fit(image, SIZE)) if self.judge else None
        same = judged is not None and self.judged_by is not None and self.judged_by.resize == self._how
        own = judged if same and judged is not None else self.extractor.prepare(image)
        return _Prepared(pixels, thumb, own, judged)

    @property
    def _how(self) -> str:
        network = self.extractor.network  # a CLIP of 64 pixels that resizes as the judge does takes the same input
        return network.resize if network.side == SIZE and network.name.split(":")[0] in ("clip", "judge") else ""

    def see(self, batch: Sequence[_Prepared]) -> list[Seen]:
        """What the networks see in a batch."""
        features = self.extractor.features(torch.stack([p.input for p in batch])).numpy()
        readings: list[Reading] | list[None] = [None] * len(batch)
        if self.judge is not None:
            readings = self.judge.read(torch.stack([p.judged for p in batch if p.judged is not None]))
        rows = zip(batch, features, readings, strict=True)
        return [Seen(p.pixels, np.ascontiguousarray(f, np.float32), p.thumb, r) for p, f, r in rows]


def measure(
    pictures: Sequence[Picture],
    eyes: Eyes,
    memory: Memory,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    on_fault: Callable[[Picture, T2IError], None] = lambda picture, error: None,
) -> tuple[list[tuple[Picture, Seen]], Clock]:
    """What is seen in each picture, in the order given, without those that could not be read (`on_fault` hears of
    them), and where the time went."""
    clock, started = Clock(), time.perf_counter()
    out: dict[int, Seen] = {}
    name, done = eyes.name, 0
    memory.open()
    todo: list[tuple[int, str]] = []
    try:
        for i, picture in enumerate(pictures):
            key = _key(picture.path, name)
            found = memory.get(key) if key else None
            if found is None:
                todo.append((i, key))
            else:
                out[i] = found
        clock.remembered = len(out)
        done = len(out)
        with ThreadPoolExecutor(max(1, eyes.threads)) as pool:
            for part in _ahead(pool, [(i, key, pictures[i]) for i, key in todo], eyes):
                ready: list[tuple[int, str, _Prepared]] = []
                for i, key, future in part:
                    try:
                        ready.append((i, key, future.result()))
                    except T2IError as error:
                        on_fault(pictures[i], error)
                if ready:
                    before = time.perf_counter()
                    seen = eyes.see([prepared for _, _, prepared in ready])
                    clock.networks += time.perf_counter() - before
                    out.update({i: s for (i, _, _), s in zip(ready, seen, strict=True)})
                    memory.put([(key, s) for (_, key, _), s in zip(ready, seen, strict=True) if key])
                done += len(part)
                on_step(done, len(pictures))
    finally:
        memory.close()
    clock.total, clock.pictures = time.perf_counter() - started, len(out)
    return [(pictures[i], out[i]) for i in sorted(out)], clock


def _ahead(
    pool: ThreadPoolExecutor, todo: Sequence[tuple[int, str, Picture]], eyes: Eyes
) -> Iterator[list[tuple[int, str, Future[_Prepared]]]]:
    """Batches whose pictures are being decoded, AHEAD of them at a time."""
    starts = iter(range(0, len(todo), eyes.batch))
    waiting: deque[list[tuple[int, str, Future[_Prepared]]]] = deque()
    while True:
        while len(waiting) < AHEAD and (start := next(starts, None)) is not None:
            part = todo[start : start + eyes.batch]
            waiting.append([(i, key, pool.submit(eyes.prepare, picture.path)) for i, key, picture in part])
        if not waiting:
            return
        yield waiting.popleft()


def _key(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() + name
    except OSError:
        return ""


def _pack(seen: Seen) -> bytes:
    facts: dict[str, Any] = {"pixels": asdict(seen.pixels), "reading": asdict(seen.reading) if seen.reading else None}
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(file, features=seen.features, thumb=seen.thumb, facts=text)
    return file.getvalue()


def _unpack(data: bytes) -> Seen:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        raw = facts["reading"]
        reading = None
        if raw is not None:
            objects = tuple(Detection(**found) for found in raw["objects"])
            reading = Reading(objects, raw["place"], raw["place_score"], raw["shade"])
        return Seen(Pixels(**facts["pixels"]), arrays["features"], arrays["thumb"], reading)

"""Run the networks on pictures: decoded ahead in threads, measured in batches, cached by content."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2i.errors import T2IError
from t2i.files import hash_file
from t2i.media.images import load_image, to_tensor
from t2i.score.extractors import Extractor, center_square
from t2i.score.feature_cache import FeatureCache, PictureFeatures
from t2i.score.picture_files import PictureFile
from t2i.score.pixel_stats import PixelStats, pixel_stats
from t2i.score.recipe import NetworkInfo
from t2i.world.judge import SIZE as JUDGE_SIZE
from t2i.world.judge import Judge
from t2i.world.reading import Reading

CACHE_VERSION = 2  # part of the key: raised when cached features must be computed again
BATCHES_AHEAD = 3  # batches that are decoded before they are needed


@dataclass
class ExtractionTime:
    """Wall time in seconds: in all, and in the networks. cached: pictures that came from the cache."""

    total: float = 0.0
    networks: float = 0.0
    pictures: int = 0
    cached: int = 0

    @property
    def share(self) -> float:
        """The networks' share of the time."""
        return self.networks / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class _Decoded:
    """One picture, decoded: its pixel statistics and the inputs (3, S, S) of the networks."""

    pixels: PixelStats
    thumb: NDArray[np.uint8]
    extractor_input: Tensor
    judge_input: Tensor | None


@dataclass
class ScoringNetworks:
    """The networks that measure pictures. Without a judge, scenes are not read."""

    extractor: Extractor
    judge: Judge | None = None
    judge_info: NetworkInfo | None = None
    batch: int = 64
    threads: int = 2

    @property
    def digest(self) -> str:
        """Equal digests measure the same."""
        facts = [CACHE_VERSION, asdict(self.extractor.info), asdict(self.judge_info) if self.judge_info else None]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def decode(self, path: Path) -> _Decoded:
        image = load_image(path)
        pixels, thumb = pixel_stats(image)
        judge_input = to_tensor(center_square(image, JUDGE_SIZE)) if self.judge else None
        same = judge_input is not None and self._extractor_reads_the_judges_input()
        return _Decoded(
            pixels,
            thumb,
            judge_input if same and judge_input is not None else self.extractor.prepare(image),
            judge_input,
        )

    def run(self, batch: Sequence[_Decoded]) -> list[PictureFeatures]:
        features = self.extractor.features(torch.stack([d.extractor_input for d in batch])).numpy()
        readings: list[Reading] | list[None] = [None] * len(batch)
        if self.judge is not None:
            readings = self.judge.read(torch.stack([d.judge_input for d in batch if d.judge_input is not None]))
        rows = zip(batch, features, readings, strict=True)
        return [PictureFeatures(d.pixels, np.ascontiguousarray(f, np.float32), d.thumb, r) for d, f, r in rows]

    def _extractor_reads_the_judges_input(self) -> bool:
        """Whether both networks take the picture at the same size, by the same resize, unnormalised."""
        info = self.extractor.info
        ours = info.name.split(":")[0] in ("clip", "judge") and info.side == JUDGE_SIZE
        return ours and self.judge_info is not None and self.judge_info.resize == info.resize


def extract_features(
    pictures: Sequence[PictureFile],
    networks: ScoringNetworks,
    cache: FeatureCache,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    on_error: Callable[[PictureFile, T2IError], None] = lambda picture, error: None,
) -> tuple[list[tuple[PictureFile, PictureFeatures]], ExtractionTime]:
    """The features of each picture, in the order given, and where the time went.

    Pictures that cannot be read are passed to `on_error` and left out.
    """
    spent, started = ExtractionTime(), time.perf_counter()
    out: dict[int, PictureFeatures] = {}
    digest = networks.digest
    cache.open()
    todo: list[tuple[int, str]] = []
    try:
        for i, picture in enumerate(pictures):
            key = _cache_key(picture.path, digest)
            cached = cache.get(key) if key else None
            if cached is None:
                todo.append((i, key))
            else:
                out[i] = cached
        done = spent.cached = len(out)
        with _pool(networks.threads) as pool:
            for part in _decode_ahead(pool, [(i, key, pictures[i]) for i, key in todo], networks):
                ready: list[tuple[int, str, _Decoded]] = []
                for i, key, future in part:
                    try:
                        ready.append((i, key, future.result()))
                    except T2IError as error:
                        on_error(pictures[i], error)
                if ready:
                    before = time.perf_counter()
                    found = networks.run([decoded for _, _, decoded in ready])
                    spent.networks += time.perf_counter() - before
                    out.update({i: f for (i, _, _), f in zip(ready, found, strict=True)})
                    cache.put([(key, f) for (_, key, _), f in zip(ready, found, strict=True) if key])
                done += len(part)
                on_step(done, len(pictures))
    finally:
        cache.close()
    spent.total, spent.pictures = time.perf_counter() - started, len(out)
    return [(pictures[i], out[i]) for i in sorted(out)], spent


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that do not finish what waits where an exception, such as a signal's, ends the block."""
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_ahead(
    pool: ThreadPoolExecutor, todo: Sequence[tuple[int, str, PictureFile]], networks: ScoringNetworks
) -> Iterator[list[tuple[int, str, Future[_Decoded]]]]:
    """Batches of pictures that are being decoded, BATCHES_AHEAD at a time."""
    starts = iter(range(0, len(todo), networks.batch))
    waiting: deque[list[tuple[int, str, Future[_Decoded]]]] = deque()
    while True:
        while len(waiting) < BATCHES_AHEAD and (start := next(starts, None)) is not None:
            part = todo[start : start + networks.batch]
            waiting.append([(i, key, pool.submit(networks.decode, picture.path)) for i, key, picture in part])
        if not waiting:
            return
        yield waiting.popleft()


def _cache_key(path: Path, digest: str) -> str:
    """Hash of the file's bytes and of the networks; empty for a file that cannot be read."""
    try:
        return hash_file(path) + digest
    except OSError:
        return ""

"""The pictures of one model that `lab/gate_power.py` damages and deals, and what the networks find in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from t2i.errors import T2IError
from t2i.files import atomic_file
from t2i.media.images import load_image
from t2i.score.baseline import ScoredSet
from t2i.score.extractors import Extractor
from t2i.score.feature_cache import FeatureCache, PictureFeatures
from t2i.score.features import ScoringNetworks, extract_features
from t2i.score.metrics import PictureRow, average_by_unit, metric_versions, score_pictures
from t2i.score.picture_files import PictureFile, find_pictures
from t2i.score.recipe import ScoreRecipe
from t2i.score.suite import SuitePrompt

PAIR = (0, 1)  # the seeds of a baseline

Seen = tuple[PictureFile, PictureFeatures]
Told = tuple[str, int, PictureFeatures]  # prompt, seed, and what was measured


class KeptTexts:
    """An extractor that encodes each text once."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.info = extractor, extractor.info
        self.known: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.extractor, name)

    def texts(self, prompts: list[str]) -> Tensor | None:
        if new := [p for p in prompts if p not in self.known]:
            found = self.extractor.texts(new)
            assert found is not None
            self.known.update(zip(new, found, strict=True))
        return torch.stack([self.known[p] for p in prompts])


def _refuse(picture: PictureFile, error: T2IError) -> None:
    raise error


@dataclass
class GatePool:
    """The pictures of one model, and what was measured in them."""

    folder: Path
    suite: Sequence[SuitePrompt]  # only the prompts of the pool
    networks: ScoringNetworks
    cache: Path
    thumbs: dict[str, str] = field(default_factory=dict)
    baselines: dict[tuple[str, ...], ScoredSet] = field(default_factory=dict)

    @cached_property
    def healthy(self) -> dict[tuple[str, int], Seen]:
        return self.measured("healthy")

    @cached_property
    def prompts(self) -> list[str]:
        known = {p.text for p in self.suite}
        return [p for p in dict.fromkeys(prompt for prompt, _ in self.healthy) if p in known]

    def measured(self, name: str) -> dict[tuple[str, int], Seen]:
        """(prompt, seed) -> the picture in this folder of the pool."""
        found = self._extract(find_pictures([self.folder / name])[0])
        return {(p.prompt, p.seed): (p, f) for p, f in found if p.prompt and p.seed is not None}

    def damaged(self, name: str, change: Callable[[Image.Image], Image.Image]) -> dict[tuple[str, int], Seen]:
        """The pictures of a baseline, each changed."""
        made: list[PictureFile] = []
        for (prompt, seed), (picture, _) in self.healthy.items():
            if seed in PAIR:
                path = self.folder / "damaged" / name / f"{len(made):03}.png"
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_file(path) as file:  # a run that is stopped leaves no half picture for the next
                        change(load_image(picture.path)).save(file, "PNG", compress_level=1)
                made.append(replace(picture, path=path, prompt=prompt, seed=seed))
        return {(p.prompt or "", p.seed or 0): (p, f) for p, f in self._extract(made)}

    def _extract(self, pictures: Sequence[PictureFile]) -> list[Seen]:
        found, _ = extract_features(pictures, self.networks, FeatureCache(self.cache), on_error=_refuse)
        return found

    def score(self, seen: Sequence[Told], models: tuple[str, ...]) -> ScoredSet:
        """seen: prompt, seed and features of each picture."""
        pictures = [(PictureFile(Path(f"{p}-{s}"), f"{p}-{s}", p, s), f) for p, s, f in seen]
        scored = score_pictures(pictures, self.networks.extractor, self.suite)
        rows = []
        for row in scored:
            key = row.features.pixels.sha256
            if key not in self.thumbs:
                self.thumbs[key] = row.row().thumb
            p = row.picture
            rows.append(PictureRow(p.name, p.prompt, p.seed, row.unit, row.task, row.values, self.thumbs[key]))
        recipe = ScoreRecipe(self.networks.extractor.info, self.networks.judge_info, metric_versions(scored))
        return ScoredSet(recipe, tuple(average_by_unit(rows)), models, rows=tuple(rows))

    def baseline(self, prompts: tuple[str, ...]) -> ScoredSet:
        """The score of the healthy pictures of these prompts."""
        if prompts not in self.baselines:
            self.baselines[prompts] = self.score(self.whole(prompts), ())
        return self.baselines[prompts]

    def whole(self, prompts: Sequence[str], seeds: Sequence[int] = PAIR) -> list[Told]:
        return [(p, s, self.healthy[p, s][1]) for p in prompts for s in seeds]

    def some_prompts(self, rng: np.random.Generator, pictures: int) -> list[str]:
        n = min(pictures // len(PAIR), len(self.prompts))
        return [self.prompts[i] for i in sorted(rng.permutation(len(self.prompts))[:n])]

    def dealt(self, rng: np.random.Generator, prompts: Sequence[str]) -> tuple[ScoredSet, ScoredSet]:
        """Two scores of the same weights with other seeds for every prompt, each as if drawn with seeds of its own."""
        hands: tuple[list[Told], list[Told]] = ([], [])
        for prompt in prompts:
            seeds = rng.permutation([s for p, s in self.healthy if p == prompt])
            for side in (0, 1):
                part = seeds[side * len(PAIR) : (side + 1) * len(PAIR)]
                hands[side].extend((prompt, 10 * side + i, self.healthy[prompt, int(s)][1]) for i, s in enumerate(part))
        return self.score(hands[0], ("w",)), self.score(hands[1], ("w",))

"""What all parts of an evaluation share: a loaded bundle, the judge, the world, and helpers to draw and to judge."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from t2i.errors import UsageError
from t2i.media.fonts import find_font
from t2i.media.images import resize, save_image, to_pil
from t2i.media.sheet import captioned, contact_sheet, in_rows, titled
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.score.statistics import Interval, interval
from t2i.score.suite import SuitePrompt, read_suite, shipped_suite
from t2i.score.task_scores import subsample
from t2i.store.compatibility import ENCODERS
from t2i.store.manifest import entry_table
from t2i.store.registry import resolve, resolve_judge
from t2i.world import Group, Relation, Scene, World, WorldConfig
from t2i.world.judge import Judge
from t2i.world.reading import Expectation, Reading

RENDERS = 5000  # seed of the renders: no training uses it
LARGE = 256  # pixels a side of renders for the judge, which reduces them to 64


@dataclass
class Workbench:
    """A bundle to measure, and how much to draw.

    n: pictures per prompt of the suite; picture i has seed `seed` + i. prompts: about so many prompts of the suite,
    or all. few: prompts of the sweeps and the ablation. scenes: of distances and retrieval. batch: pictures drawn
    together. sheets: the folder of contact sheets, or None. part: the name of the running part, for progress lines.
    written: the files written so far.
    """

    pipeline: Pipeline
    config: WorldConfig
    sprites: Path | None = None
    n: int = 4
    seed: int = 0
    prompts: int | None = None
    few: int = 128
    scenes: int = 1000
    batch: int = 32
    sheets: Path | None = None
    part: str = ""
    written: list[Path] = field(default_factory=list)

    @classmethod
    def open(
        cls, model: str, config: WorldConfig, sprites: Path | None, *, device: str = "cpu", **counts: Any
    ) -> Workbench:
        """Raises UnavailableError or InputError if the bundle cannot be used."""
        return cls(Pipeline.load(resolve(model), device=device), config, sprites, **counts)

    @cached_property
    def judge(self) -> Judge:
        """Raises UnavailableError or InputError if it cannot be used, UsageError for a world that it does not know."""
        judge = Judge.load(resolve_judge())
        if self.config.vocabulary == "shapes" or not set(self.config.places) <= set(judge.config.places):
            raise UsageError("the judge does not know the world of this recipe.", "Choose one that has sprites.")
        return judge

    # Messages ------------------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        sys.stderr.write(f"{self.part}: {line}\n")
        sys.stderr.flush()

    def facts(self) -> dict[str, Any]:
        """Which bundle was measured, so that reports of different weights are not mixed up."""
        manifest = self.pipeline.manifest
        stages = {entry.name: manifest.digest(entry)[:16] for entry in manifest.stages}
        defaults = {
            entry.name: entry_table(entry)["defaults"] for entry in manifest.stages if entry.kind not in ENCODERS
        }
        return {"name": manifest.name, "sha256": stages, "defaults": defaults, "sizes": list(manifest.sizes)}

    def settings(self) -> dict[str, Any]:
        return {"n": self.n, "seed": self.seed, "prompts": self.prompts, "few": self.few, "scenes": self.scenes}

    # Drawing ---------------------------------------------------------------------------------------------------

    def suite(self, n: int | None = None) -> list[SuitePrompt]:
        """The prompts of the shipped suite that are of the recipe's vocabulary, or about n of them."""
        prompts = [p for p in read_suite(shipped_suite()) if p.vocabulary == "core" or self.config.vocabulary == "all"]
        return subsample(prompts, n) if n else prompts

    def samples(
        self, texts: Sequence[str], seeds: Sequence[int], settings: SampleRequest | None = None,
        draw: Callable[[Sequence[str], Sequence[int]], Tensor] | None = None,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Pictures in batches (b, 3, H, W) in [-1, 1], by the pipeline or by `draw`."""
        done = 0
        for start in range(0, len(texts), self.batch):
            part, own = list(texts[start : start + self.batch]), list(seeds[start : start + self.batch])
            if draw is not None:
                yield draw(part, own)
            else:
                yield self.pipeline.sample(part, own, settings or SampleRequest()).images
            done += len(part)
            self.say(f"{done} of {len(texts)} pictures")

    def look(
        self, prompts: Sequence[SuitePrompt], n: int, settings: SampleRequest | None = None,
        draw: Callable[[Sequence[str], Sequence[int]], Tensor] | None = None, keep: int = 0,
    ) -> tuple[list[list[Reading]], list[Tensor]]:  # fmt: skip
        """The judge's readings of n pictures of each prompt, and the first picture of each prompt, reduced to `keep`.

        keep: pixels a side; 0 keeps no pictures. draw: replaces the pipeline.
        """
        texts = [p.text for p in prompts for _ in range(n)]
        seeds = [self.seed + i for _ in prompts for i in range(n)]
        readings: list[Reading] = []
        kept: list[Tensor] = []
        for images in self.samples(texts, seeds, settings, draw):
            first = len(readings)
            readings += self.judge.read(images)
            if keep:
                chosen = [i for i in range(len(images)) if (first + i) % n == 0]
                kept += list(resize(images[chosen], keep, keep)) if chosen else []
        return [readings[i : i + n] for i in range(0, len(readings), n)], kept

    # The world -------------------------------------------------------------------------------------------------

    @cached_property
    def world(self) -> World:
        """The world of held-out scenes whose captions name every place and no style."""
        config = replace(self.config, side="held-out", say_place=1.0, say_style=0.0)
        return World(config, self.sprites, resolution=256)

    def held_out(self, n: int, first: int = 0) -> list[Scene]:
        return [self.world.scene(RENDERS, first + i) for i in range(n)]

    def render(self, scenes: Sequence[Scene], size: int) -> Tensor:
        """(B, 3, S, S) in [-1, 1], in batches that fit."""
        step = max(1, 2_000_000 // size**2)
        return torch.cat([self.world.draw(scenes[i : i + step], size)[0] for i in range(0, len(scenes), step)])

    def scene_of(self, asked: Expectation, index: int, take: int) -> Scene:
        """A scene with what was asked. What is left open (the place, the geometry) is drawn at random by (index,
        take)."""
        rng = Random(f"{index}/{take}/open")
        groups = tuple(Group(w.thing, w.count or 1, w.colour) for w in asked.objects)
        place, shade = asked.place, asked.shade
        if place is None:
            place = rng.choice(self.world.places)
            hues = {g.colour or self.world.things[g.thing].colour for g in groups}
            if place == "plain":
                shade = rng.choice([s for s in self.config.shades if s not in hues])
        relation = Relation(*asked.relation) if asked.relation else None
        return self.world.layout.compose(
            groups, place, shade=shade, relation=relation, position=asked.position, seed=take, index=index
        )

    # Features --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def z_text(self, texts: Sequence[str]) -> Tensor:
        """Unit text embeddings (B, E)."""
        return F.normalize(self.pipeline.encode(texts)[0].pooled, dim=-1).float().cpu()

    @torch.no_grad()
    def z_image(self, pixels: Tensor) -> Tensor:
        """Unit image embeddings (B, E) of pictures of any size."""
        clip = self.pipeline.clip
        side, device = clip.config.image_size, clip.text_projection.device
        parts = [clip.encode_image(resize(p, side, side).to(device)) for p in torch.split(pixels, 64)]
        return F.normalize(torch.cat(parts), dim=-1).float().cpu()

    # Sheets ----------------------------------------------------------------------------------------------------

    def sheet(self, name: str, pictures: Sequence[Tensor | Image.Image], labels: Sequence[Sequence[str]],
              columns: int, title: str) -> None:  # fmt: skip
        """Write DIR/name.png, a labelled contact sheet, if sheets are wanted."""
        if self.sheets is None or not pictures:
            return
        font = find_font("".join(word for words in labels for word in words) + title)
        images = [p if isinstance(p, Image.Image) else to_pil(p) for p in pictures]
        if not font.complete:  # no font here has Chinese characters; the report has the prompts in full
            labels = [[_ascii(word) for word in words] for words in labels]
        self.sheets.mkdir(parents=True, exist_ok=True)
        target = self.sheets / f"{name}.png"
        cells = [captioned(image, texts, font) for image, texts in zip(images, labels, strict=True)]
        sheet = contact_sheet(in_rows(cells, columns), gap=max(8, images[0].width // 10))
        save_image(titled(sheet, title, font), target)
        self.written.append(target)


def _ascii(text: str) -> str:
    """The text with each run of non-ASCII characters replaced by an ellipsis."""
    return re.sub(r"[^\x00-\x7f]+", "...", text)


def interval_row(m: Interval) -> dict[str, float | None]:
    """An interval as JSON; infinite ends become null."""
    low, high = (end if math.isfinite(end) else None for end in (m.low, m.high))
    return {"mean": m.mean, "low": low, "high": high, "n": m.n}


def mean_row(values: Sequence[float] | Tensor) -> dict[str, float | None]:
    """Mean and 95% interval of one value a scene, as `row` has it."""
    return interval_row(interval([float(v) for v in values]))

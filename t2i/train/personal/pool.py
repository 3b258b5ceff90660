"""What a personal model is trained on, made once before the first step: views of the user's pictures, and pictures that
the model draws while it is unchanged.

The second are for prior preservation (DreamBooth: Ruiz 2022, arXiv 2208.12242, section 3.3), here of all that the model
knows and not of one class: captions of the built-in world, of whose words every one is known to the model.
Shapes: V views and P kept pictures of S pixels a side, s the scale of the upsampler, E width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.text.words import KnownWords
from t2i.train.personal.recipe import PersonalRecipe
from t2i.train.pool import unit
from t2i.train.streams import examples_seed, noise
from t2i.world.captions import caption
from t2i.world.captions.phrases import PLACES
from t2i.world.layout import Layout, WorldConfig
from t2i.world.vocabulary import surface_forms, things

BATCH = 8
TRIES = 50  # captions that are drawn for each that is kept, at most
PLAIN = ("{}", "a {}", "the {}", "there is a {}", "一个{}")
PLACED = ("{} {en}", "a {} {en}", "the {} {en}", "there is a {} {en}", "{zh}有一个{}", "一个{}在{zh}")


@dataclass(frozen=True)
class Rows:
    """B examples: small (B, 3, S/s, S/s), z (B, E) and captions. large (B, 3, S, S): of views, where the upsampler
    learns too."""

    small: Tensor
    z: Tensor
    captions: list[str]
    large: Tensor | None = None


class PersonalPool:
    """The examples of a training, as `Pool`. source: the user's pictures, a caption of "" where they have none."""

    batch = BATCH
    on_disk = False

    def __init__(
        self, pipeline: Pipeline, source: Source, token: str, recipe: PersonalRecipe, seed: int, side: int
    ) -> None:  # fmt: skip
        """side: S, the side of the base's pictures if no upsampler learns."""
        self.pipeline, self.source, self.token, self.recipe, self.side = pipeline, source, token, recipe, side
        self.seed, self.low = examples_seed(seed, "lora"), pipeline.manifest.sizes[0]
        self.prompts = known_captions(pipeline.words, recipe.pool, self.seed) if recipe.kept else []
        self.size = recipe.views + len(self.prompts)
        self.views: Rows | None = None
        self.kept: Rows | None = None

    def fill(self, stage: str, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> None:
        """Compute all of them. Returns early when `stop` says so."""
        parts: dict[str, list[Rows]] = {"views": [], "kept": []}
        for first in range(0, self.size, BATCH):
            if stop():
                return
            report({"event": "embed", "stage": stage, "step": first, "steps": self.size})
            made, begun = self.recipe.views, first < self.recipe.views
            if begun:
                parts["views"].append(self._view(first // BATCH, min(BATCH, made - first)))
            if first + BATCH > made and self.prompts:
                low = max(first, made) - made
                parts["kept"].append(self._draw(range(low, min(first + BATCH, self.size) - made)))
        self.views = joined(parts["views"])
        self.kept = joined(parts["kept"]) if parts["kept"] else None

    def rehearse(self) -> None:
        """As `Pool.rehearse`."""
        self.views = self._view(0, min(BATCH, self.recipe.views))
        self.kept = self._draw(range(min(BATCH, len(self.prompts)))) if self.prompts else None

    def draw(self, rows: Rows, n: int, g: torch.Generator) -> Rows:
        """n of the rows at random, with replacement, and a wording of each."""
        index = torch.randint(len(rows.z), (n,), generator=g)
        chosen = index.tolist()
        words = [rows.captions[i].split("\n") for i in chosen]
        said = [w[int(torch.randint(len(w), (), generator=g))] for w in words]
        return Rows(rows.small[index], rows.z[index], said, None if rows.large is None else rows.large[index])

    @torch.no_grad()
    def _view(self, step: int, n: int) -> Rows:
        """Views of the pictures of one batch; wordings of a caption are joined by line ends."""
        c, g = self.recipe, noise(self.seed, "views", step)
        examples = self.source.batch(self.seed, step, BATCH, self.side)
        u = torch.rand(BATCH, 4, generator=g) * 2 - 1
        scale = 1 / (1 + c.zoom * u[:, 0])
        mirrored = torch.where(u[:, 3] < 2 * c.flip - 1, -1.0, 1.0)
        theta = torch.zeros(BATCH, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirrored, scale, 2 * c.shift * u[:, 1:3]
        grid = F.affine_grid(theta, list(examples.pixels.shape), align_corners=False)
        large = F.grid_sample(examples.pixels, grid, padding_mode="reflection", align_corners=False)[:n]
        small = F.interpolate(large, size=(self.low, self.low), mode="area") if self.side > self.low else large
        z = self.pipeline.embed(small).cpu()
        captions = [text or self._guess(row) for text, row in zip(examples.captions, z, strict=False)]
        return Rows(small, z, captions, large if self.side > self.low else None)

    def _guess(self, z: Tensor) -> str:
        """Wordings for a picture without a caption: with the place that CLIP takes it for, or without a place."""
        forms = [form.format(self.token) for form in PLAIN]
        place = place_of(self.pipeline, z)
        if place is not None:
            words = PLACES[place]
            for form in PLACED:
                forms += [form.format(self.token, en=en, zh=zh) for en, zh in zip(words.en, words.zh, strict=False)]
        return "\n".join(forms)

    @torch.inference_mode()
    def _draw(self, rows: range) -> Rows:
        """What the unchanged model draws for the prompts `rows`."""
        prompts, request = [self.prompts[i] for i in rows], SampleRequest(size=self.low)
        condition, _ = self.pipeline.condition(prompts, list(rows), request)
        assert condition.z is not None, "a model with a prior"
        return Rows(self.pipeline.sample_base(condition, list(rows), request).cpu(), condition.z.cpu(), prompts)


def joined(parts: list[Rows]) -> Rows:
    """Batches as one; ordinary tensors, which a step may keep for its backward pass."""
    large = [part.large for part in parts if part.large is not None]
    return Rows(
        torch.cat([part.small for part in parts]).clone(),
        torch.cat([part.z for part in parts]).clone(),
        [text for part in parts for text in part.captions],
        torch.cat(large) if large else None,
    )


def known_captions(words: KnownWords, n: int, seed: int) -> list[str]:
    """Up to n captions of the built-in world of whose words a model knows every one."""
    if not words.known:
        return []
    table = things()
    keys = tuple(k for k, t in table.items() if not words.unknown(" ".join((*surface_forms(t, "en"), t.zh))))
    places = tuple(place for place in PLACES if place_known(words, place))
    if not keys or not places:
        return []
    layout = Layout(WorldConfig(groups=(0.6, 0.4, 0.0, 0.0)), table, keys, places)
    found: list[str] = []
    for i in range(TRIES * n):
        scene, rng = layout(seed, i), Random(f"{seed}/{i}/kept")
        said = caption(scene, rng, "zh" if rng.random() < 0.4 else "en", "dense", say_style=0.0, say_place=0.9)
        if not words.unknown(said):
            found.append(said)
        if len(found) == n:
            break
    return found


def place_known(words: KnownWords, place: str) -> bool:
    """Whether a model knows what a place of the built-in world is called."""
    return not words.unknown(f"{PLACES[place].en[0]} {PLACES[place].zh[0]}")


def place_of(pipeline: Pipeline, z: Tensor) -> str | None:
    """The place whose words CLIP finds nearest to a picture's embedding (E,), of those that the model knows; None if it
    knows fewer than two. A plain background is none of them."""
    names = [place for place in PLACES if place != "plain" and place_known(pipeline.words, place)]
    if len(names) < 2:
        return None
    z_text = unit(pipeline.encode([PLACES[place].en[0] for place in names])[0].pooled).cpu()
    return names[int(((z_text - z_text.mean(0)) @ z).argmax())]

"""What a personal model is trained on, made once before the first step: views of the user's pictures, the thing pasted
into places that the model draws, and pictures that the model draws while it is unchanged.

The last are for prior preservation (DreamBooth: Ruiz 2022, arXiv 2208.12242, section 3.3), here of all that the model
knows and not of one class: captions of the built-in world, of whose words every one is known to the model.
Shapes: V views and P kept pictures of S pixels a side, s the scale of the upsampler, E width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.text.words import KnownWords
from t2i.train.personal.cutouts import cut_out, facing
from t2i.train.personal.recipe import PersonalRecipe
from t2i.train.pool import unit
from t2i.train.streams import examples_seed, noise
from t2i.world.captions import caption
from t2i.world.captions.where import KnownPlace, empty_place, known_places, seen_place
from t2i.world.layout import Layout, WorldConfig
from t2i.world.vocabulary import surface_forms, things

BATCH = 8
ANSWERED = 50  # texts that the prior answers together
PHOTOS = 64  # of the user's pictures that are used, at most
WORDINGS = 8  # draws of a picture's captions
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


@dataclass(frozen=True)
class Answers:
    """The embeddings z (B, E) that the unchanged prior gives to B captions."""

    z: Tensor
    captions: list[str]

    def draw(self, n: int, g: torch.Generator) -> Answers:
        """n of them at random, with replacement."""
        index = torch.randint(len(self.z), (n,), generator=g)
        return Answers(self.z[index], [self.captions[i] for i in index.tolist()])


class PersonalPool:
    """The examples of a training, as `Pool`. source: the user's pictures, a caption of "" where they have none."""

    batch = BATCH
    on_disk = False

    def __init__(
        self, pipeline: Pipeline, source: Source, n: int, token: str, recipe: PersonalRecipe, seed: int, side: int
    ) -> None:  # fmt: skip
        """n: how many pictures the source has. side: S, the side of the base's pictures if no upsampler learns."""
        self.pipeline, self.source, self.token, self.recipe, self.side = pipeline, source, token, recipe, side
        self.n, self.seed, self.low = min(n, PHOTOS), examples_seed(seed, "lora"), pipeline.manifest.sizes[0]
        self.texts = known_captions(pipeline.words, max(recipe.pool, recipe.told), self.seed) if recipe.kept else []
        self.prompts = self.texts[: recipe.pool]
        self.empty = empty_places(pipeline.words)
        self.size = recipe.views + recipe.pasted + len(self.prompts)
        self.views: Rows | None = None
        self.kept: Rows | None = None
        self.answers: Answers | None = None

    def fill(self, stage: str, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> None:
        """Compute all of them. Returns early when `stop` says so."""
        c, parts = self.recipe, dict[str, list[Rows]](views=[], kept=[])
        self._read()
        if c.pasted:
            report({"event": "cut out", "stage": stage, "pictures": self.n, "found": len(self.cutouts)})
        ends = (c.views, c.views + (c.pasted if self.cutouts and self.empty else 0))
        for kind, first, last, make in (
            ("views", 0, ends[0], self._view), ("views", *ends, self._paste),
            ("kept", ends[1], ends[1] + len(self.prompts), self._draw),
        ):  # fmt: skip
            for i in range(first, last, BATCH):
                if stop():
                    return
                report({"event": "embed", "stage": stage, "step": i, "steps": self.size})
                parts[kind].append(make(range(i - first, min(i + BATCH, last) - first)))
        self.views = joined(parts["views"])
        self.kept = joined(parts["kept"]) if parts["kept"] else None
        self.answers = self._answer(c.told)

    def rehearse(self) -> None:
        """As `Pool.rehearse`."""
        self._read()
        self.views = self._view(range(min(BATCH, self.recipe.views)))
        self.kept = self._draw(range(min(BATCH, len(self.prompts)))) if self.prompts else None
        self.answers = self._answer(BATCH)

    def _read(self) -> None:
        """The user's pictures, wordings of their captions, and what is cut out of them. All things face one way."""
        self.photos = self.source.batch(self.seed, 0, self.n, self.side).pixels
        takes = [[self.source.captions(self.seed, i, take) for take in range(WORDINGS)] for i in range(self.n)]
        self.said = ["\n".join(dict.fromkeys(wordings)) for wordings in takes]
        found = cut_out(self.photos) if self.recipe.pasted else {}
        self.cutouts: list[Tensor] = []
        for i, (away, alike) in zip(found, facing(list(found.values())), strict=True):
            turn = away and self.recipe.turn
            if turn:
                self.photos[i] = self.photos[i].flip(-1)
            if alike:
                self.cutouts.append(found[i].flip(-1) if turn else found[i])

    def draw(self, rows: Rows, n: int, g: torch.Generator) -> Rows:
        """n of the rows at random, with replacement, and a wording of each."""
        index = torch.randint(len(rows.z), (n,), generator=g)
        chosen = index.tolist()
        words = [rows.captions[i].split("\n") for i in chosen]
        said = [w[int(torch.randint(len(w), (), generator=g))] for w in words]
        return Rows(rows.small[index], rows.z[index], said, None if rows.large is None else rows.large[index])

    @torch.no_grad()
    def _view(self, rows: range) -> Rows:
        """Views of the user's pictures; wordings of a caption are joined by line ends."""
        c, g = self.recipe, noise(self.seed, "views", rows.start)
        photos = [i % self.n for i in rows]
        u = torch.rand(len(rows), 3, generator=g) * 2 - 1
        moved = transformed(self.photos[photos], 1 + c.zoom * u[:, 0], 2 * c.shift * u[:, 1:], "reflection")
        made = self._rows(moved, [])
        captions = [self.said[i] or self._guess(row) for i, row in zip(photos, made.z, strict=True)]
        return replace(made, captions=captions)

    @torch.no_grad()
    def _paste(self, rows: range) -> Rows:
        """The thing in places that the unchanged model draws."""
        c, g = self.recipe, noise(self.seed, "pasted", rows.start)
        places = [self.empty[i % len(self.empty)] for i in rows]
        request = SampleRequest(size=self.side)
        drawn = self.pipeline.sample([prompt for prompt, _ in places], list(rows), request).images
        chosen = torch.randint(len(self.cutouts), (len(rows),), generator=g).tolist()
        u = torch.rand(len(rows), 3, generator=g) * 2 - 1
        things = torch.stack([self.cutouts[i] for i in chosen])
        things[:, :3] = (things[:, :3] + 1) * things[:, 3:]  # nothing where it is not opaque
        things = transformed(things, 1 + c.zoom * u[:, 0], 2 * c.shift * u[:, 1:], "zeros")
        pixels = (drawn + 1) * (1 - things[:, 3:]) + things[:, :3] - 1
        return self._rows(pixels, ["\n".join(form.format(self.token) for form in forms) for _, forms in places])

    def _rows(self, large: Tensor, captions: list[str]) -> Rows:
        """The pictures (B, 3, S, S) with their embeddings."""
        small = F.interpolate(large, size=(self.low, self.low), mode="area") if self.side > self.low else large
        return Rows(small, self.pipeline.embed(small).cpu(), captions, large if self.side > self.low else None)

    def _guess(self, z: Tensor) -> str:
        """Wordings for a picture without a caption: with the place that CLIP takes it for, or without a place."""
        forms = [form.format(self.token) for form in PLAIN]
        embed = lambda texts: unit(self.pipeline.encode(texts)[0].pooled).cpu()  # noqa: E731
        place = seen_place(z, self.pipeline.words.unknown, embed)
        if place is not None:
            forms += placed(self.token, place)
        return "\n".join(forms)

    @torch.inference_mode()
    def _draw(self, rows: range) -> Rows:
        """What the unchanged model draws for the prompts `rows`."""
        prompts, request = [self.prompts[i] for i in rows], SampleRequest(size=self.low)
        condition, _ = self.pipeline.condition(prompts, list(rows), request)
        assert condition.z is not None, "a model with a prior"
        return Rows(self.pipeline.sample_base(condition, list(rows), request).cpu(), condition.z.cpu(), prompts)

    def _answer(self, n: int) -> Answers | None:
        """What the unchanged prior gives to the first n texts."""
        texts, z = self.texts[:n], list[Tensor]()
        for first in range(0, len(texts), ANSWERED):
            some = texts[first : first + ANSWERED]
            found = self.pipeline.condition(some, range(first, first + len(some)), SampleRequest())[0].z
            assert found is not None, "a model with a prior"
            z.append(found.cpu())
        return Answers(torch.cat(z).clone(), texts) if z else None


def transformed(pixels: Tensor, scale: Tensor, shift: Tensor, padding: str) -> Tensor:
    """Pictures (B, C, S, S) enlarged by scale (B,) and moved by shift (B, 2), in half sides."""
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode=padding, align_corners=False)


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
    places = tuple(dict.fromkeys(place.key for place in known_places(words.unknown)))
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


def empty_places(words: KnownWords) -> list[tuple[str, tuple[str, ...]]]:
    """The places, and plain backgrounds, that a model knows: a prompt for one without things, and captions of one with
    a thing, {} in place of its name."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for place in known_places(words.unknown) if words.known else ():
        if (prompt := empty_place(place, words.unknown)) is not None:
            found.append((prompt, tuple(placed("{}", place))))
    return found


def placed(thing: str, place: KnownPlace) -> list[str]:
    """Captions of a thing in a place, in both languages."""
    return [form.format(thing, en=en, zh=zh) for form in PLACED for en, zh in zip(place.en, place.zh, strict=False)]

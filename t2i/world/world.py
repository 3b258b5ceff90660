"""A source of scenes: graphs, captions and pictures of one configuration of the world."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import torch
from torch import Tensor

from t2i.errors import UsageError
from t2i.world.captions import caption
from t2i.world.captions.writer import Form
from t2i.world.graph import Scene
from t2i.world.layout import Layout, WorldConfig
from t2i.world.places import PLACES
from t2i.world.render import render
from t2i.world.sprites import SHAPES_STYLE, load_atlas
from t2i.world.vocabulary import Lang, things


@dataclass(frozen=True)
class Batch:
    """B pictures: pixels (B, 3, S, S) in [-1, 1], their captions and scene graphs.

    masks: (B, K, S, S) in [0, 1], the share of each pixel that each item owns, where asked for.
    """

    pixels: Tensor
    captions: list[str]
    scenes: list[Scene]
    masks: Tensor | None = None


class World:
    """A source of scenes under one configuration. (seed, index) gives the same scene on every machine.

    sprites: folder of the sprite library (see docs/training.md); None for the shapes drawn by code.
    resolution: side in pixels of the largest sprite that is kept. Pictures larger than about twice this look soft.

    keys: of the things in this world, each once. Raises UsageError for a thing or place that does not exist,
    InputError for a library that cannot be read.
    """

    def __init__(
        self,
        config: WorldConfig,
        sprites: Path | str | None = None,
        *,
        resolution: int = 128,
        device: torch.device | str = "cpu",
    ):
        self.config, self.things = config, things()
        shapes = config.vocabulary == "shapes"
        styles = (SHAPES_STYLE,) if shapes else config.styles
        keys = config.things or tuple(
            key
            for key, thing in self.things.items()
            if thing.sprite.startswith("shape:") == shapes and (config.vocabulary != "core" or thing.core)
        )
        places = config.places or tuple(PLACES)
        for kind, names, known in (("thing", keys, self.things), ("place", places + config.unsaid, PLACES)):
            if missing := [name for name in names if name not in known]:
                raise UsageError(f"the world has no {kind} called {missing[0]!r}")
        drawn = tuple(key for key in keys for _ in range(config.core_weight if self.things[key].core else 1))
        self.keys = tuple(dict.fromkeys(keys))
        library = Path(sprites) if sprites else None
        self.atlas = load_atlas(self.things, self.keys, styles, library, resolution).to(device)
        self.layout = Layout(replace(config, styles=styles), self.things, drawn, places)

    def at(self, place: str) -> World:
        """The world of this one place, with the same things."""
        world = copy.copy(self)
        world.layout = replace(self.layout, places=(place,))
        return world

    @property
    def places(self) -> tuple[str, ...]:
        """Keys of the places in this world."""
        return self.layout.places

    def scene(self, seed: int, index: int) -> Scene:
        """The scene graph number `index` of the stream `seed`."""
        return self.layout(seed, index)

    def draw(self, scenes: Sequence[Scene], size: int, masks: bool = False) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, 3, S, S) in [-1, 1] of scene graphs, and the masks of their items (see `Batch`) or None."""
        # Under the autocast of a training step, half precision would lose grey levels.
        with torch.no_grad(), torch.autocast(self.atlas.aspect.device.type, enabled=False):
            pixels, owned = render(scenes, self.atlas, size, things=self.things, light=self.config.light, masks=masks)
            return pixels.mul_(2).sub_(1), owned

    def caption(self, scene: Scene, lang: Lang | None = None, form: Form | None = None, take: int = 0) -> str:
        """A caption of the scene. Wording, and language and form where None, are drawn from (seed, index, take)."""
        rng = Random(f"{scene.seed}/{scene.index}/{take}/words")
        drawn_lang: Literal["en", "zh"] = "zh" if rng.random() < self.config.chinese else "en"
        drawn_form = rng.choices(("dense", "short", "telegraphic"), self.config.forms)[0]
        unsaid = self.config.unsaid
        say_place = self.config.say_place if not unsaid or scene.place in unsaid else 1.0
        says = {"say_style": self.config.say_style, "say_place": say_place}
        return caption(scene, rng, lang or drawn_lang, form or drawn_form, **says)  # type: ignore[arg-type]

    def batch(self, seed: int, indices: Sequence[int], size: int, masks: bool = False) -> Batch:
        """Scenes of the stream `seed`, drawn at `size` pixels a side, with captions."""
        scenes = [self.layout(seed, index) for index in indices]
        pixels, owned = self.draw(scenes, size, masks)
        return Batch(pixels, [self.caption(scene) for scene in scenes], scenes, owned)

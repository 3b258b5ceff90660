"""The world that the judge is trained on, and what it is to see in a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from t2i.lab.judge_loss import Mark, Truth
from t2i.world import Scene, World, WorldConfig
from t2i.world.reading import OWN
from t2i.world.vocabulary import is_shape, things

Vocabulary = Literal["shapes", "core", "all"]


def judge_world(
    vocabulary: Vocabulary, styles: Sequence[str] = ("fluent3d",), *, sprites: Path | None = None, core_share: int = 3
) -> World:
    """More groups, equal things and paint than the generators see, because those are what a judge gets wrong.

    In the vocabulary "all", the things of "core" are drawn `core_share` times as often as the others. The scenes are
    of both sides of the held-out split.
    """
    config = WorldConfig(
        vocabulary=vocabulary, styles=tuple(styles), groups=(0.40, 0.44, 0.09, 0.07), counts=(0.64, 0.15, 0.11, 0.10),
        chinese=0.0, colour=0.5, side="any",
    )  # fmt: skip
    if vocabulary == "all":
        sprite_things = [thing for thing in things().values() if not is_shape(thing)]
        keys = [thing.key for thing in sprite_things for _ in range(core_share if thing.core else 1)]
        config = replace(config, things=tuple(keys))
    return World(config, sprites)


def truth_of(scene: Scene, world: World) -> Truth:
    """The training target of a scene.

    An unpainted thing has the colour word of its kind if its sprite has that colour in this style, else `OWN`.
    """
    marks = []
    for item in scene.items:
        group = scene.groups[item.group]
        at = world.atlas.index[scene.style, group.thing]
        natural = world.things[group.thing].colour if world.atlas.fits[at] else ""
        colour = group.colour or natural or OWN
        w, h = (world.atlas.aspect[at] * item.scale).tolist()
        marks.append(Mark(group.thing, colour, item.x, item.y, w, h))
    return Truth(tuple(marks), scene.place, scene.shade)

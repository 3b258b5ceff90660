"""Held-out scenes with full captions, of which no two fit the same caption."""

from __future__ import annotations

from random import Random
from typing import Any

from t2i.lab.evaluate.workbench import RENDERS, Workbench
from t2i.world import Relation, Scene, World
from t2i.world.captions import caption
from t2i.world.vocabulary import Lang

LANGS: tuple[Lang, ...] = ("en", "zh")
MIRROR = {"right": "left", "below": "above"}


def full_caption(scene: Scene, lang: Lang, take: int = 0) -> str:
    """A caption that mentions everything in the scene graph. take: another wording."""
    rng = Random(f"{scene.seed}/{scene.index}/{take}/all")
    return caption(scene, rng, lang, "dense", say_style=0.0, say_place=1.0)


def scene_content(scene: Scene) -> tuple[Any, ...]:
    """What a full caption says. Equal for scenes that fit the same caption: "a left of b" and "b right of a"."""
    groups = list(scene.groups)
    relation = scene.relation
    if relation is None:
        groups.sort(key=str)
    elif relation.kind in MIRROR or (relation.kind == "next" and str(groups[1]) < str(groups[0])):
        groups[0], groups[1] = groups[1], groups[0]
        relation = Relation(MIRROR.get(relation.kind, relation.kind))
    return tuple(groups), scene.place, scene.shade, relation, scene.position


def distinct_scenes(bench: Workbench, n: int) -> list[Scene]:
    """n held-out scenes with different contents."""
    found: dict[tuple[Any, ...], Scene] = {}
    index = 0
    while len(found) < n:
        scene = bench.world.scene(RENDERS + 1, index)
        found.setdefault(scene_content(scene), scene)
        index += 1
    return list(found.values())


def twin_scene(world: World, scene: Scene) -> Scene:
    """A scene with the same content and another geometry."""
    return world.layout.compose(
        scene.groups, scene.place, shade=scene.shade, style=scene.style, relation=scene.relation,
        position=scene.position, seed=scene.seed + 7, index=scene.index,
    )  # fmt: skip

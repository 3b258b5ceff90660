"""The scene graph: plain data that says what a picture of the built-in world contains.

Coordinates are shares of the canvas side, (0, 0) top left and (1, 1) bottom right. A scene therefore looks the same at
32 and at 1024 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

RELATIONS = ("left", "right", "above", "below", "next", "behind", "on", "wearing", "holding")
"""Relations of a subject to an object: "A left of B", "A on B", "A wearing B"."""

POSITIONS = ("left", "right", "top", "bottom", "centre")
"""Positions of a lone group on the canvas."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A kind of object that the world can draw, and its words. One row of `things.tsv`."""

    key: str  # stable ASCII identifier; `holdout` hashes it
    sprite: str  # file stem in the sprite library ("1f408"), or "shape:star" for a shape drawn by code
    en: str  # "cat"
    plural: str  # "cats"
    zh: str  # "猫"
    measure: str  # Chinese measure word: "只"
    synonyms_en: tuple[str, ...]  # singular forms; the plural is regular, or given as in "mouse/mice"
    synonyms_zh: tuple[str, ...]
    category: (
        str  # animal, plant, food, vehicle, building, household, tool, sport, music, clothing, person, weather, shape
    )
    pose: str  # "stand" or "lie" (on the ground), "fly", "swim", "hang" (floats anywhere)
    size: float  # natural height, a person is 1; from .3 to 3; scales neighbours
    colour: str  # colour word for its natural colour, "" if it has many colours
    colours: tuple[str, ...]  # colour words that it may be recoloured to
    core: bool  # whether it belongs to the vocabulary "core"


@dataclass(frozen=True, slots=True)
class Group:
    """`count` things of one kind, named together in the caption."""

    thing: str
    count: int = 1
    colour: str | None = (
        None  # a word of `vocabulary.COLOURS`, stated in the caption; None: natural colours, not stated
    )
    size: str | None = None  # "large", "small", or None


@dataclass(frozen=True, slots=True)
class Item:
    """One sprite on the canvas. x, y: centre of its tight bounding box."""

    group: int  # index into Scene.groups
    x: float
    y: float
    scale: float  # longer side of the tight bounding box
    flip: bool = False
    angle: float = 0.0  # radians, small
    depth: float = 0.0  # 0 near, 1 far; sets drawing order and haze


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between two groups: indices into Scene.groups."""

    kind: str  # one of RELATIONS
    subject: int = 0
    object: int = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of one picture. Without groups it is an empty place."""

    seed: int
    index: int
    place: str  # key of `places.PLACES`
    shade: str | None  # colour word of the background if the place is "plain"
    style: str  # name of a sprite set, or "shapes"
    groups: tuple[Group, ...]
    items: tuple[Item, ...]
    relation: Relation | None = None
    position: str | None = None  # one of POSITIONS, only for a lone group
    chance: tuple[float, ...] = ()  # `places.CHANCE` uniform numbers in [0, 1) that vary the place

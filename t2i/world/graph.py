"""The scene graph: what a picture of the built-in world contains, before it is drawn.

A `Scene` is plain data. `layout.py` draws one at random from (seed, index), `language.py` says it in
words, `render.py` draws it. Coordinates are shares of the canvas side: (0, 0) top left, (1, 1) bottom
right, so that a scene looks the same at 32 and at 1024 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

RELATIONS = ("left", "right", "above", "below", "next", "behind", "on", "wearing", "holding")
"""How the first group stands to the second: "A left of B", "A on B", "A wearing B"."""

POSITIONS = ("left", "right", "top", "bottom", "centre")
"""Where a lone group stands on the canvas, when the caption says so."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object that the world can draw, with its words."""

    key: str  # stable ASCII identifier; the held-out rule hashes it
    sprite: str  # file stem in the sprite library ("1f408"), or "shape:star" for a drawn shape
    en: str  # "cat"
    plural: str  # "cats"
    zh: str  # "猫"
    measure: str  # Chinese measure word: "只"
    synonyms_en: tuple[str, ...]  # "kitty", singular forms with the same plural rule (+s) or "mouse/mice"
    synonyms_zh: tuple[str, ...]
    category: (
        str  # animal, plant, food, vehicle, building, household, tool, sport, music, clothing, person, weather, shape
    )
    pose: str  # stand (feet on the ground), lie (rests on the ground), fly, swim, hang (floats anywhere)
    size: float  # natural height relative to a person (1.0); used to scale neighbours, .3 to 3
    colour: str  # the colour word that fits its own pixels, or "" when it is many-coloured
    colours: tuple[str, ...]  # colour words it may be recoloured to
    core: bool  # belongs to the small vocabulary of the recipe `first`


@dataclass(frozen=True, slots=True)
class Group:
    """`count` equal things, named together in the caption."""

    thing: str
    count: int = 1
    colour: str | None = None  # said in the caption; None: its own colours, unsaid
    size: str | None = None  # "large", "small", or None


@dataclass(frozen=True, slots=True)
class Item:
    """One sprite on the canvas."""

    group: int  # index into Scene.groups
    x: float  # centre of the tight box
    y: float
    scale: float  # longer side of the tight box, as a share of the canvas
    flip: bool = False
    angle: float = 0.0  # radians, small
    depth: float = 0.0  # 0 near, 1 far: draw order and haze


@dataclass(frozen=True, slots=True)
class Relation:
    kind: str  # one of RELATIONS
    subject: int = 0  # group index
    object: int = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is in one picture. Without groups it is an empty place."""

    seed: int
    index: int
    place: str  # key of the background
    shade: str | None  # colour word of a plain background, else None
    style: str  # key of the sprite set or "shapes"
    groups: tuple[Group, ...]
    items: tuple[Item, ...]
    relation: Relation | None = None
    position: str | None = None  # one of POSITIONS, for a lone group
    chance: tuple[float, ...] = ()  # uniform numbers in [0, 1): the variety of the place and the light

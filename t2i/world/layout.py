"""The scene sampler: (seed, index) -> Scene, under a WorldConfig.

Everything that varies has a setting, so that a small model can learn a small world well. A scene on the wrong side of
the held-out split is drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Literal

from t2i.errors import UsageError
from t2i.schema import Between, Length
from t2i.world.graph import POSITIONS, RELATIONS, Group, Item, Relation, Scene, Thing
from t2i.world.holdout import scene_held_out
from t2i.world.places import CHANCE, PLACES

HATS = {"top_hat": 0.9, "cap": 0.95, "crown": 0.85, "sun_hat": 1.1, "graduation_cap": 1.0, "santa_hat": 1.0}
"""Things that can be worn on a head, and their width relative to the head's."""

HEADS: dict[str, tuple[float, float, float]] = {
    "cat": (0.24, 0.06, 0.40), "dog": (0.30, 0.03, 0.34), "penguin": (0.5, 0.02, 0.50), "bear": (0.5, 0.06, 0.62),
    "fox": (0.5, 0.20, 0.50), "panda": (0.5, 0.08, 0.62), "lion": (0.5, 0.08, 0.55), "elephant": (0.28, 0.06, 0.40),
    "pig": (0.22, 0.10, 0.36), "cow": (0.18, 0.06, 0.30), "sheep": (0.2, 0.04, 0.32), "monkey": (0.36, 0.04, 0.40),
    "frog": (0.5, 0.06, 0.55), "owl": (0.5, 0.08, 0.55), "duck": (0.25, 0.03, 0.34), "bird": (0.28, 0.02, 0.34),
    "robot": (0.5, 0.06, 0.50), "teddy_bear": (0.5, 0.04, 0.46), "tiger": (0.2, 0.06, 0.34), "koala": (0.5, 0.1, 0.6),
    "man": (0.5, 0.08, 0.70), "woman": (0.5, 0.08, 0.70), "boy": (0.5, 0.08, 0.70), "girl": (0.5, 0.08, 0.70),
    "ghost": (0.5, 0.04, 0.50), "snowman": (0.52, 0.03, 0.42),
}  # fmt: skip
"""Top of the head, x and y, and its width on the sprite, as shares of the longer side of the tight bounding box.

Measured on the 3D sprites, which all face left before a flip."""

HOLDABLE = (
    "balloon",
    "umbrella",
    "apple",
    "book",
    "key",
    "rose",
    "tulip",
    "ice_cream",
    "soccer_ball",
    "gift",
    "guitar",
)
"""Things that can be held."""

PLATFORMS = ("house", "car", "bus", "elephant", "turtle", "chair", "gift", "book", "train", "castle", "horse", "whale")
"""Things that another thing can be on."""


Share = Annotated[float, Between(0, 1)]
Scale = Annotated[float, Between(0.05, 1)]
Names = Annotated[tuple[str, ...], Length(1, 1000)]
Chances = tuple[Share, Share, Share, Share]
DRAWS = 100_000  # most scenes that are drawn in search of one on the wanted side of the split


@dataclass(frozen=True)
class WorldConfig:
    """The settings of the built-in world. Lengths are shares of the canvas side, probabilities are in [0, 1]."""

    vocabulary: Literal["shapes", "core", "all"] = "core"
    things: tuple[str, ...] = ()  # keys; (): all of the vocabulary; one that stands twice is drawn twice as often
    core_weight: int = 1  # how much more often a thing of the vocabulary "core" is drawn than another
    places: tuple[str, ...] = ()  # keys; (): all
    # colours of the background in the place "plain"
    shades: Names = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "grey", "black")
    styles: Names = ("fluent3d",)
    say_style: Share = 0.0  # probability that the caption names the style
    say_place: Share = 0.9  # probability that the caption names the place
    unsaid: tuple[str, ...] = ()  # places that a caption may leave unsaid; (): all
    empty: Share = 0.0  # share of scenes without things; 0 on the held-out side
    groups: Chances = (0.72, 0.24, 0.03, 0.01)  # probabilities of 1, 2, 3, 4 groups
    counts: Chances = (0.84, 0.09, 0.04, 0.03)  # probabilities of 1, 2, 3, 4 things in a lone group
    relations: Names = RELATIONS
    related: Share = 0.75  # probability that two groups have a relation; else they stand in a row
    colour: Share = 0.3  # probability that a thing has a stated colour
    size: Share = 0.12  # probability that a lone thing has a stated size
    position: Share = 0.12  # probability that a lone thing has a stated position
    scale: tuple[Scale, Scale] = (0.5, 0.7)  # range of the size of a lone thing without a stated size
    jitter: Share = 0.05  # largest shift of a centre; sizes vary by three times as much, at most 6%
    flip: Share = 0.5  # probability of a mirrored thing
    angle: Annotated[float, Between(0, 3.2)] = 0.05  # largest tilt, radians
    light: Share = 1.0  # strength of the place's light and haze on the things, [0, 1]
    chance: Share = 1.0  # spread of a place's looks around the middle one, [0, 1]
    looks: Annotated[int, Between(0, 1_000_000)] = 0  # number of looks of each place; 0: unlimited
    chinese: Share = 0.4  # share of Chinese captions
    forms: tuple[Share, Share, Share] = (0.6, 0.28, 0.12)  # shares of dense, short, telegraphic captions
    side: Literal["train", "held-out", "any"] = "train"  # of the held-out split

    def __post_init__(self) -> None:
        for name in ("groups", "counts", "forms"):
            if not sum(getattr(self, name)) > 0:
                raise ValueError(f"all probabilities of {name} are 0")
        if unknown := [name for name in self.relations if name not in RELATIONS]:
            raise ValueError(f"there is no relation {unknown[0]!r}; there are {', '.join(RELATIONS)}")


@dataclass(frozen=True)
class Layout:
    """The scene sampler, a pure function of (seed, index). keys: of the things and of the places to draw from."""

    config: WorldConfig
    things: Mapping[str, Thing]
    keys: tuple[str, ...] = field(default=())
    places: tuple[str, ...] = field(default=())

    def __call__(self, seed: int, index: int) -> Scene:
        rng = Random(f"{seed}/{index}")
        empty = self.config.empty if self.config.side != "held-out" else 0.0
        # A generator of its own, so that the other scenes stay the same when `empty` changes.
        if empty and Random(f"{seed}/{index}/empty").random() < empty:
            return self._empty(rng, seed, index)
        for _ in range(DRAWS):
            scene = self._draw(rng, seed, index)
            if self.config.side == "any" or scene_held_out(scene) == (self.config.side == "held-out"):
                return scene
        what = f"this world has no scenes on the side {self.config.side!r} of the split."
        raise UsageError(what, "Give it more things.", "config")

    def compose(
        self,
        groups: Sequence[Group],
        place: str,
        *,
        shade: str | None = None,
        style: str | None = None,
        relation: Relation | None = None,
        position: str | None = None,
        seed: int = 0,
        index: int = 0,
    ) -> Scene:
        """A scene with the given content; only its geometry is random. The held-out split is ignored."""
        rng = Random(f"{seed}/{index}/compose")
        items = self._place_items(rng, tuple(groups), place, relation, position)
        chance, style = self._chance(rng, place), style or self.config.styles[0]
        return Scene(seed, index, place, shade, style, tuple(groups), items, relation, position, chance)

    def _draw(self, rng: Random, seed: int, index: int) -> Scene:
        config = self.config
        place = rng.choice(self.places)
        shade = rng.choice(config.shades) if place == "plain" else None
        n_groups = rng.choices((1, 2, 3, 4), config.groups)[0]
        if n_groups > 1:
            n_groups = min(n_groups, len(set(self.keys)))
        relation, position = None, None
        if n_groups == 1:
            keys = [rng.choice(self.keys)]
            count = rng.choices((1, 2, 3, 4), config.counts)[0]
            groups: tuple[Group, ...] = (self._group(rng, keys[0], count, shade),)
            if count == 1 and rng.random() < config.position:
                position = rng.choice(("left", "right", "centre") if PLACES[place].ground else POSITIONS)
        else:
            keys, relation = self._pick_related(rng, n_groups)
            groups = tuple(self._group(rng, key, 1, shade, allow_size=False) for key in keys)
        items = self._place_items(rng, groups, place, relation, position)
        chance = self._chance(rng, place)
        return Scene(seed, index, place, shade, rng.choice(config.styles), groups, items, relation, position, chance)

    def _empty(self, rng: Random, seed: int, index: int) -> Scene:
        """A scene without things."""
        place = rng.choice(self.places)
        shade = rng.choice(self.config.shades) if place == "plain" else None
        chance = self._chance(rng, place)
        return Scene(seed, index, place, shade, rng.choice(self.config.styles), (), (), chance=chance)

    def _chance(self, rng: Random, place: str) -> tuple[float, ...]:
        """The random numbers that a place is drawn from."""
        if looks := self.config.looks:
            rng = Random(f"{place}/{rng.randrange(looks)}")
        return tuple(0.5 + (rng.random() - 0.5) * self.config.chance for _ in range(CHANCE))

    def _group(self, rng: Random, key: str, count: int, shade: str | None, allow_size: bool = True) -> Group:
        thing, config = self.things[key], self.config
        colour = size = None
        known = tuple(dict.fromkeys((*thing.colours, *([thing.colour] if thing.colour else []))))
        if known and rng.random() < config.colour:
            # A thing in the colour of the wall behind it cannot be seen.
            choices = [c for c in known if c != shade]
            colour = rng.choice(choices) if choices else None
        if allow_size and count == 1 and rng.random() < config.size:
            size = rng.choice(("large", "small"))
        return Group(key, count, colour, size)

    def _pick_related(self, rng: Random, n: int) -> tuple[list[str], Relation | None]:
        """Keys of n different things, and the relation of the first two, if they have one."""
        keys = rng.sample(self.keys, n)
        while len(set(keys)) < n:  # a key that stands twice in the recipe can be drawn twice
            keys = rng.sample(self.keys, n)
        if n > 2 or not self.config.relations or rng.random() >= self.config.related:
            return keys, None
        kind = rng.choice(self.config.relations)
        pools = {
            "wearing": (HEADS, HATS),
            "holding": (HEADS, HOLDABLE),
            "on": (self.keys, PLATFORMS),
        }.get(kind)
        if pools:
            subjects = [k for k in self.keys if k in pools[0] and k != "snowman"]
            objects = [k for k in self.keys if k in pools[1]]
            if not subjects or not objects:
                return keys, Relation("next")
            keys = [rng.choice(subjects), rng.choice(objects)]
            if keys[0] == keys[1]:
                return keys[:1] + [next(k for k in self.keys if k != keys[0])], Relation("next")
        return keys, Relation(kind)

    # ---- Geometry ------------------------------------------------------------------------------------

    def _item(self, rng: Random, group: int, x: float, y: float, scale: float, depth: float = 0.0) -> Item:
        """An item near (x, y), of about `scale`, with jitter, flip and tilt."""
        config = self.config
        j = config.jitter
        stretch = min(3 * j, 0.06)
        return Item(
            group, x + rng.uniform(-j, j), y + rng.uniform(-j, j) * 0.6, scale * rng.uniform(1 - stretch, 1 + stretch),
            rng.random() < config.flip, rng.uniform(-config.angle, config.angle), depth,
        )  # fmt: skip

    def _place_items(
        self, rng: Random, groups: tuple[Group, ...], place: str, relation: Relation | None, position: str | None
    ) -> tuple[Item, ...]:
        if len(groups) == 1:
            if groups[0].count == 1:
                return (self._alone(rng, groups[0], place, position),)
            return self._row(rng, [0] * groups[0].count, [1.0] * groups[0].count, place)
        if relation is not None:
            return self._related(rng, groups, place, relation.kind)
        order = list(range(len(groups)))
        rng.shuffle(order)
        return self._row(rng, order, [self.things[groups[g].thing].size ** 0.2 for g in order], place)

    def _alone(self, rng: Random, group: Group, place: str, position: str | None) -> Item:
        low, high = self.config.scale
        scale = rng.uniform(low, high)
        if group.size == "large":
            scale = rng.uniform(0.76, 0.86)
        elif group.size == "small":
            scale = rng.uniform(0.26, 0.34)
        elif position in ("left", "right", "top", "bottom"):
            scale = rng.uniform(0.38, 0.46)
        off = 0.5 - scale / 2 - 0.04
        x = {"left": 0.5 - off, "right": 0.5 + off}.get(position or "", 0.5)
        y = {"top": 0.5 - off, "bottom": 0.5 + off}.get(position or "", self._rest(group.thing, place, scale))
        return self._item(rng, 0, x, y, scale)

    def _rest(self, key: str, place: str, scale: float, depth: float = 0.0) -> float:
        """Height of the centre of a thing at `depth`: feet on the ground, flying things in the air."""
        thing = self.things[key]
        if not PLACES[place].ground:
            return 0.5
        if thing.pose in ("fly", "hang"):
            return 0.42
        feet = 0.86 - 0.16 * depth + 0.05 * (scale - 0.5)
        return min(feet - scale / 2, 0.7)

    def _row(self, rng: Random, groups: Sequence[int], weights: Sequence[float], place: str) -> tuple[Item, ...]:
        """Two to four items side by side, or four in two rows. weights: relative sizes."""
        n = len(groups)
        two_rows = n == 4 and (not PLACES[place].ground or rng.random() < 0.5)
        items = []
        for i, (group, weight) in enumerate(zip(groups, weights, strict=True)):
            if two_rows:
                x, y, scale = (0.29, 0.71)[i % 2], (0.3, 0.72)[i // 2], 0.36 * weight
            else:
                scale = {2: 0.42, 3: 0.31, 4: 0.25}[n] * min(weight, 1.15)
                x, y = (i + 0.5 + (0.12 if n == 2 else 0) * (0.5 - i)) / n, 0.56
            items.append(self._item(rng, group, x, y, scale))
        return tuple(items)

    def _related(self, rng: Random, groups: tuple[Group, ...], place: str, kind: str) -> tuple[Item, ...]:
        a, b = (self.things[g.thing] for g in groups[:2])
        ratio = min(max((a.size / b.size) ** 0.3, 0.72), 1.4)
        s_a, s_b = 0.44 * ratio**0.5, 0.44 / ratio**0.5
        if kind == "wearing" and a.key in HEADS:
            return self._wear(rng, a.key, b.key, place)
        if kind == "holding":
            body = self._item(rng, 0, 0.46, self._rest(a.key, place, 0.56), 0.56)
            side = -1 if body.flip else 1
            held = self._item(rng, 1, body.x + side * 0.27, body.y + 0.08, 0.28)
            return (body, held)
        if kind == "on":
            below = self._item(rng, 1, 0.5, 0.68, 0.46)
            return (below, self._item(rng, 0, below.x, below.y - 0.37, 0.34))
        if kind == "above":
            return (self._item(rng, 0, 0.5, 0.26, s_a * 0.92), self._item(rng, 1, 0.5, 0.73, s_b * 0.92))
        if kind == "below":
            return (self._item(rng, 1, 0.5, 0.26, s_b * 0.92), self._item(rng, 0, 0.5, 0.73, s_a * 0.92))
        if kind == "behind":
            side = rng.choice((-1, 1))
            far = self._item(rng, 0, 0.5 - side * 0.13, 0.42, s_a * 0.95, depth=0.6)
            return (far, self._item(rng, 1, 0.5 + side * 0.14, 0.62, s_b * 1.05))
        side = {"left": -1, "right": 1}.get(kind) or rng.choice((-1, 1))
        y_a, y_b = self._rest(a.key, place, s_a, 0.3), self._rest(b.key, place, s_b, 0.3)
        return (self._item(rng, 0, 0.5 + side * 0.24, y_a, s_a), self._item(rng, 1, 0.5 - side * 0.24, y_b, s_b))

    def _wear(self, rng: Random, wearer: str, hat: str, place: str) -> tuple[Item, ...]:
        scale = 0.58
        body = self._item(rng, 0, 0.5, self._rest(wearer, place, scale) + 0.06, scale)
        head_x, head_y, width = HEADS[wearer]
        side = -1 if body.flip else 1
        size = width * HATS[hat] * body.scale
        x = body.x + side * (head_x - 0.5) * body.scale
        y = body.y + (head_y - 0.5) * body.scale - 0.3 * size
        return (body, Item(1, x, y, size, body.flip, body.angle, 0.0))

"""What a prompt of the suite says before it is in words: its scene, what a judge should see, what is held out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2i.world.graph import Group, Relation, Scene
from t2i.world.holdout import combinations, held_out
from t2i.world.reading import Expectation, expectation_of

SEED = 1
STYLE = "fluent3d"


@dataclass(frozen=True)
class Content:
    """What a prompt says, before it is in words; no place means that the prompt names none."""

    groups: tuple[Group, ...]
    place: str | None = None
    shade: str | None = None
    relation: Relation | None = None
    position: str | None = None

    def scene(self, index: int, place: str, shade: str | None) -> Scene:
        """The scene graph without geometry; `place` and `shade` where the content has none."""
        where = (self.place, self.shade) if self.place else (place, shade)
        return Scene(SEED, index, *where, STYLE, self.groups, (), self.relation, self.position)

    def features(self) -> list[str]:
        """What should be used evenly within a task."""
        out = [f"thing {g.thing}" for g in self.groups] + [f"colour {g.colour}" for g in self.groups]
        kind = self.relation.kind if self.relation else self.position
        out += [f"place {self.place}"] if self.place else []
        return [*out, f"number {self.groups[0].count}", f"where {kind}"]


def held_out_parts(expectation: Expectation) -> list[tuple[str, ...]]:
    """The held-out combinations that a prompt of this expectation says, as arguments of `held_out`."""
    groups = tuple(Group(w.thing, w.count or 1, w.colour) for w in expectation.objects)
    relation = Relation(*expectation.relation) if expectation.relation else None
    scene = Scene(0, 0, expectation.place or "", expectation.shade, STYLE, groups, (), relation)
    return [c for c in combinations(scene) if (c[0] != "place" or expectation.place) and held_out(*c)]


def expectation(content: Content, count: bool = False) -> Expectation:
    """What a judge should see: all that the content says; the number of one thing only with `count`."""
    asked = expectation_of(content.scene(0, "", None), counts=count)
    return Expectation(asked.objects, content.place, content.shade, asked.relation, asked.position)


def as_row(expectation: Expectation) -> dict[str, Any]:
    """The expectation as a suite file holds it: what is not said is left out."""
    objects = [
        {k: v for k, v in (("thing", w.thing), ("count", w.count), ("colour", w.colour)) if v is not None}
        for w in expectation.objects
    ]
    row = {"objects": objects, "place": expectation.place, "shade": expectation.shade,
           "relation": list(expectation.relation) if expectation.relation else None,
           "position": expectation.position}  # fmt: skip
    return {key: value for key, value in row.items() if value is not None}

"""Checks of what a picture shows against what its prompt asked for. Plain data and rules, no networks.

A `Reading` is what the judge found in a picture; an `Expectation` is what a prompt states. `check` compares them task
by task as GenEval does (arXiv 2310.11513, section 3): presence, exact count, colour, relative position of box centres
with a margin of a tenth of the canvas, attribute binding. The background is a task of ours.

Coordinates are shares of the canvas side, (0, 0) top left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.world.graph import Scene

OWN = "own"
"""The colour of a thing in its natural colours."""

TASKS = ("object", "count", "colour", "background", "position", "binding")
MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found: key of its thing, centre, confidence in [0, 1], colour word or `OWN`, width and height."""

    thing: str
    x: float
    y: float
    score: float
    colour: str
    w: float = 0.0
    h: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in one picture: objects by falling confidence, the place, the colour of a plain background."""

    objects: tuple[Detection, ...]
    place: str
    place_score: float
    shade: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One kind of object asked for. count, colour: None where the prompt does not say."""

    thing: str
    count: int | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a prompt states; None where it says nothing.

    relation: (kind, subject, object): one of graph.RELATIONS and two indices into `objects`.
    position: one of graph.POSITIONS, for a lone object.
    """

    objects: tuple[Wanted, ...] = ()
    place: str | None = None
    shade: str | None = None
    relation: tuple[str, int, int] | None = None
    position: str | None = None


_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    # (dx, dy) from the object to the subject. The first four are GenEval's; the others follow `layout`.
    "left": lambda dx, dy: dx <= -MARGIN,
    "right": lambda dx, dy: dx >= MARGIN,
    "above": lambda dx, dy: dy <= -MARGIN,
    "below": lambda dx, dy: dy >= MARGIN,
    "next": lambda dx, dy: abs(dx) >= max(MARGIN, abs(dy)),
    "behind": lambda dx, dy: dy <= -MARGIN / 2,
    "on": lambda dx, dy: dy <= -MARGIN and abs(dx) <= 0.2,
    "wearing": lambda dx, dy: dy >= MARGIN / 2 and abs(dx) <= 0.3,
    "holding": lambda dx, dy: MARGIN <= max(abs(dx), abs(dy)) <= 0.45,
}

_POSITIONS: dict[str, Callable[[float, float], bool]] = {
    # (x, y) from the middle of the canvas.
    "left": lambda x, y: x <= -MARGIN,
    "right": lambda x, y: x >= MARGIN,
    "top": lambda x, y: y <= -MARGIN,
    "bottom": lambda x, y: y >= MARGIN,
    "centre": lambda x, y: abs(x) <= 0.12 and abs(y) <= 0.25,
}


def check(reading: Reading, expectation: Expectation) -> dict[str, bool]:
    """Whether the picture passes, for each of `TASKS` that the expectation involves.

    object: every thing is there. count: every stated count is exact. colour: every thing with a stated colour is there
    in that colour. background: the place is right, and so is the colour of a plain one. position: the relation holds
    for some pair of found objects, or the lone object is at its position. binding: as object and colour together, for
    prompts with two or more things.
    """
    found = [[f for f in reading.objects if f.thing == w.thing] for w in expectation.objects]
    pairs = list(zip(found, expectation.objects, strict=True))
    painted = [any(f.colour == w.colour for f in fs) for fs, w in pairs if w.colour]
    out: dict[str, bool] = {}
    if expectation.objects:
        out["object"] = all(found)
    counted = [(len(fs), w.count) for fs, w in pairs if w.count is not None]
    if counted:
        out["count"] = all(seen == asked for seen, asked in counted)
    if painted:
        out["colour"] = all(painted)
    if expectation.place is not None:
        shade_fits = expectation.shade is None or reading.shade == expectation.shade
        out["background"] = reading.place == expectation.place and shade_fits
    if expectation.relation is not None:
        kind, subject, target = expectation.relation
        out["position"] = any(
            a is not b and _RELATIONS[kind](a.x - b.x, a.y - b.y) for a in found[subject] for b in found[target]
        )
    elif expectation.position is not None:
        where = _POSITIONS[expectation.position]
        out["position"] = any(where(f.x - 0.5, f.y - 0.5) for f in found[0])
    if len(expectation.objects) > 1 and painted:
        out["binding"] = all(found) and all(painted)
    return out


def expectation_of(scene: Scene, *, counts: bool = True) -> Expectation:
    """What the dense caption of a scene states. counts: also ask for counts of one."""
    objects = tuple(
        Wanted(group.thing, group.count if counts or group.count > 1 else None, group.colour) for group in scene.groups
    )
    relation = scene.relation
    return Expectation(
        objects=objects,
        place=scene.place,
        shade=scene.shade,
        relation=(relation.kind, relation.subject, relation.object) if relation else None,
        position=scene.position,
    )

"""Which combinations no training run has ever seen.

A fixed hash over what is combined (an object and its place, its colour, its number; two objects and their
relation) sends a share of all combinations to the held-out side. The rule depends on nothing but the
words themselves, so that a suite can say today on which side a prompt lies for every run of every recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

from t2i.world.graph import Scene

SHARE = 10  # one combination in ten is held out
SALT = "t2i/1"  # fixed before the first run; changing it would leak held-out combinations into old weights


@lru_cache(maxsize=1 << 17)
def held_out(kind: str, *parts: str) -> bool:
    """Whether the combination lies on the held-out side.

    `kind` is "place" (thing, place), "colour" (thing, colour), "count" (thing, number), "pair" (two things in
    alphabetical order) or "relation" (subject, relation, object).
    """
    digest = blake2b("/".join((SALT, kind, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % SHARE == 0


def combinations(scene: Scene) -> Iterator[tuple[str, ...]]:
    """Every combination that the rule looks at, as arguments of `held_out`."""
    for group in scene.groups:
        yield "place", group.thing, scene.place
        if group.colour:
            yield "colour", group.thing, group.colour
        if group.count > 1:
            yield "count", group.thing, str(group.count)
    if len(scene.groups) == 2:
        a, b = sorted(group.thing for group in scene.groups)
        yield "pair", a, b
    if scene.relation:
        subject = scene.groups[scene.relation.subject].thing
        yield "relation", subject, scene.relation.kind, scene.groups[scene.relation.object].thing


def scene_held_out(scene: Scene) -> bool:
    """Whether anything in the scene lies on the held-out side."""
    return any(held_out(*combination) for combination in combinations(scene))

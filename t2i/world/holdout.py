"""The held-out split: which combinations no training run ever sees.

A fixed hash assigns a share of all combinations to the held-out side: an object with a place, a colour or a count, two
objects, two objects in a relation. It depends on the words alone, so the split is the same for every recipe and seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

from t2i.world.graph import Scene

SHARE = 10  # one combination in SHARE is held out
SALT = "t2i/1"  # never change it: weights trained before have seen what another salt holds out


@lru_cache(maxsize=1 << 17)
def held_out(kind: str, *parts: str) -> bool:
    """Whether a combination is held out.

    kind and parts: "place" (thing, place), "colour" (thing, colour), "count" (thing, number), "pair" (two things in
    alphabetical order) or "relation" (subject, relation, object).
    """
    digest = blake2b("/".join((SALT, kind, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % SHARE == 0


def combinations(scene: Scene) -> Iterator[tuple[str, ...]]:
    """Every combination in the scene, as arguments of `held_out`."""
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
    """Whether the scene contains a held-out combination."""
    return any(held_out(*combination) for combination in combinations(scene))

"""The base class of the English and the Chinese caption writer: which facts of a scene one caption states."""

from __future__ import annotations

from random import Random
from typing import Literal

from t2i.world.captions import phrases
from t2i.world.graph import Group, Relation, Scene, Thing
from t2i.world.vocabulary import things

Form = Literal["dense", "short", "telegraphic"]

SYNONYM = 0.15  # probability of naming a thing by a synonym
HAT = 0.4  # probability of calling a hat on a head just a hat
VERB = 0.45  # probability of a verb ("a cat sitting …")


class CaptionWriter:
    """The choices that do not depend on the language. Every draw comes from `rng`.

    placed: whether this caption names the place.
    """

    def __init__(self, scene: Scene, rng: Random, form: Form, placed: bool = True) -> None:
        self.scene, self.rng, self.form, self.placed = scene, rng, form, placed
        self.table = things()
        self.place = phrases.PLACES[scene.place]
        dense = form == "dense"
        self.sizes = dense or rng.random() < 0.5
        self.position = scene.position if dense or rng.random() < 0.3 else None

    def thing(self, group: Group) -> Thing:
        return self.table[group.thing]

    def split(self) -> tuple[Relation | None, Group, Group | None, list[Group]]:
        """The relation, its subject, its object, and the groups outside of it.

        Without a relation: (None, first group, None, other groups).
        """
        groups, relation = list(self.scene.groups), self.scene.relation
        if relation is None or len(groups) < 2:
            return None, groups[0], None, groups[1:]
        pair = (relation.subject, relation.object)
        rest = [g for i, g in enumerate(groups) if i not in pair]
        return relation, groups[pair[0]], groups[pair[1]], rest

    def shuffled(self) -> list[Group]:
        groups = list(self.scene.groups)
        self.rng.shuffle(groups)
        return groups

    def verb(self) -> phrases.Verb | None:
        """A verb that fits every group of the scene, or None. A caption with a position has no verb."""
        if self.position or self.rng.random() >= VERB:
            return None
        common = phrases.verbs(self.thing(self.scene.groups[0]), self.scene.place)
        for group in self.scene.groups[1:]:
            other = phrases.verbs(self.thing(group), self.scene.place)
            common = [verb for verb in common if verb in other]
        return self.rng.choice(common) if common else None

    def use_synonym(self, group: Group) -> bool:
        """Whether to name the group by a synonym. Never beside a size: "a small kitten" would say it twice."""
        return self.rng.random() < SYNONYM and not (group.size and self.sizes)

"""What a caption tells of a scene, before it is put into words; shared by `english.py` and `chinese.py`."""

from __future__ import annotations

from random import Random
from typing import Literal

from t2i.world import phrases as P
from t2i.world.graph import Group, Relation, Scene, Thing
from t2i.world.phrases import PLACES_WORDS
from t2i.world.vocabulary import things

Form = Literal["dense", "short", "telegraphic"]

SYNONYM = 0.15  # how often a thing is called by another of its names
HAT = 0.4  # how often a hat on a head is just called a hat
VERB = 0.45  # how often a thing is said to do something


class Words:
    """What both languages share: which of the scene's facts this caption tells."""

    def __init__(self, scene: Scene, rng: Random, form: Form, placed: bool = True) -> None:
        self.scene, self.rng, self.form, self.placed = scene, rng, form, placed
        self.table = things()
        self.place = PLACES_WORDS[scene.place]
        keep = form == "dense"
        self.sizes = keep or rng.random() < 0.5
        self.position = scene.position if keep or rng.random() < 0.3 else None

    def thing(self, group: Group) -> Thing:
        return self.table[group.thing]

    def split(self) -> tuple[Relation | None, Group, Group | None, list[Group]]:
        """(relation, its two groups, the groups outside of it)."""
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

    def verb(self) -> tuple[str, str, bool] | None:
        """A verb for a lone group, or for several groups that all may do the same."""
        if self.position or self.rng.random() >= VERB:
            return None
        common = P.verbs(self.thing(self.scene.groups[0]), self.scene.place)
        for group in self.scene.groups[1:]:
            other = P.verbs(self.thing(group), self.scene.place)
            common = [verb for verb in common if verb in other]
        return self.rng.choice(common) if common else None

    def synonym(self, group: Group) -> bool:
        return self.rng.random() < SYNONYM and not (group.size and self.sizes)

"""Which place a picture shows, by the words that a model has for places; and how a text says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from t2i.world.captions.phrases import PLACES
from t2i.world.vocabulary import COLOURS


@dataclass(frozen=True)
class NamedPlace:
    """A place of the built-in world: its key in `PLACES`, and the colour of a plain one, "" else."""

    key: str
    shade: str = ""

    @property
    def en(self) -> list[str]:
        """ "in the snow", and so on."""
        return [form.format(self.shade) for form in PLACES[self.key].en]

    @property
    def zh(self) -> list[str]:
        """Said after 在."""
        shade = COLOURS[self.shade][0] if self.shade else ""
        return [form.format(shade) for form in PLACES[self.key].zh]


def known_places(unknown: Callable[[str], Sequence[str]]) -> list[NamedPlace]:
    """The places of whose words none is unknown. unknown: the words of a text that a model was never taught."""
    every = [NamedPlace(key, shade) for key in PLACES for shade in (COLOURS if key == "plain" else ("",))]
    return [place for place in every if not unknown(f"{place.en[0]} {place.zh[0]}")]


def nearest_place(places: Sequence[NamedPlace], texts: Tensor, z: Tensor) -> NamedPlace:
    """The place of a picture by CLIP. texts (P, E): unit embeddings of what P places are called; z (E,): that of the
    picture. What all places have in common does not count."""
    return places[int(((texts - texts.mean(0)) @ z).argmax())]

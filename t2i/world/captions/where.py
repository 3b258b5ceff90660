"""Which place a picture shows, by the words that a model has for places; and how a text says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from t2i.world.captions.phrases import EMPTY, PLACES
from t2i.world.vocabulary import COLOURS

LEAST = 0.27
"""Least likeness of a picture to a place's words, beyond what all places have in common: by the CLIP of `small` 98 of
100 renders have .30 and more, a photograph .22, noise with the spectrum of photographs up to .23."""


@dataclass(frozen=True)
class KnownPlace:
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


def known_places(unknown: Callable[[str], Sequence[str]]) -> list[KnownPlace]:
    """The places of whose words none is unknown. unknown: the words of a text that a model was never taught."""
    every = [KnownPlace(key, shade) for key in PLACES for shade in (COLOURS if key == "plain" else ("",))]
    return [place for place in every if not unknown(f"{place.en[0]} {place.zh[0]}")]


def empty_place(place: KnownPlace, unknown: Callable[[str], Sequence[str]]) -> str | None:
    """A prompt for a place without things, "an empty beach", of known words; None if there is none."""
    tried = (f"an empty {EMPTY[place.key][0][0].format(place.shade)}", f"nothing {place.en[0]}", place.en[0])
    return next((text for text in tried if not unknown(text)), None)


def nearest_place(places: Sequence[KnownPlace], texts: Tensor, z: Tensor) -> KnownPlace | None:
    """The place of a picture by CLIP, None where it is like none of them. texts (P, E): unit embeddings of what P
    places, at least two, are called; z (E,): that of the picture."""
    likeness = (texts - texts.mean(0)) @ z
    best = int(likeness.argmax())
    return places[best] if float(likeness[best]) >= LEAST else None


def seen_place(
    z: Tensor, unknown: Callable[[str], Sequence[str]], embed: Callable[[Sequence[str]], Tensor]
) -> KnownPlace | None:
    """The `nearest_place` to the picture with the embedding z (E,), of those whose words are known; None where these
    are fewer than two. embed: P texts -> their unit embeddings (P, E)."""
    places = known_places(unknown)
    return nearest_place(places, embed([place.en[0] for place in places]), z) if len(places) > 1 else None

"""The place of a picture, by the model's CLIP: what an edit's prompt means that says none."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from t2i.edit.naming import names_place
from t2i.pipeline import Pipeline
from t2i.prompts import CHINESE
from t2i.world.captions.where import KnownPlace, empty_place, seen_place


def in_place(pipeline: Pipeline, prompt: str, z: Tensor) -> str:
    """A prompt with the place of the picture whose embedding is z (E,): "a cat", "a cat in the snow". As it is, if it
    says a place, or if the picture's is not known."""
    place = None if names_place(prompt) else place_of(pipeline, z)
    if place is None:
        return prompt
    return f"{prompt}在{place.zh[0]}" if CHINESE.search(prompt) else f"{prompt} {place.en[0]}"


def without_things(pipeline: Pipeline, z: Tensor) -> str | None:
    """A prompt for the place, without things, of the picture whose embedding is z (E,); None if it is not known."""
    place = place_of(pipeline, z)
    return None if place is None else empty_place(place, pipeline.words.unknown)


def place_of(pipeline: Pipeline, z: Tensor) -> KnownPlace | None:
    """The place of the picture with the embedding z (E,), by the model's CLIP; None where it is like none that the
    model was taught."""
    words = pipeline.words
    embed = lambda texts: F.normalize(pipeline.encode(texts)[0].pooled, dim=-1)  # noqa: E731
    return seen_place(z, words.unknown, embed) if words.known else None

"""Which place a picture shows: by hand, on unit vectors."""

from __future__ import annotations

import torch

from t2i.world.captions.where import KnownPlace, empty_place, known_places, nearest_place

PLACES = [KnownPlace("snow"), KnownPlace("beach"), KnownPlace("plain", "blue")]


def test_the_nearest_place_beyond_what_all_have_in_common() -> None:
    """Texts are in part their own and in part the same; of a picture only what is its own decides."""
    own, same = torch.eye(4)[:3], torch.eye(4)[3]
    texts = torch.nn.functional.normalize(0.8 * own + 0.6 * same, dim=-1)
    z = torch.nn.functional.normalize(own[1] + 0.2 * own[0] + same, dim=0)
    assert nearest_place(PLACES, texts, z) == KnownPlace("beach")
    assert nearest_place(PLACES, texts, same) is None
    assert nearest_place(PLACES, texts, torch.zeros(4)) is None


def test_places_are_those_whose_words_are_known() -> None:
    def unknown(text: str) -> list[str]:
        return [word for word in text.split() if word not in ("in", "the", "on", "a", "snow", "雪地里", "empty")]

    assert known_places(unknown) == [KnownPlace("snow")]
    assert empty_place(KnownPlace("snow"), unknown) == "in the snow"
    assert empty_place(KnownPlace("beach"), unknown) is None
    assert empty_place(KnownPlace("beach"), lambda text: []) == "an empty beach"
    assert KnownPlace("plain", "blue").en[0] == "on a blue background"
    assert KnownPlace("plain", "blue").zh[0] == "蓝色背景上"

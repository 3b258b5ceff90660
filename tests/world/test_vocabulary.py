"""The vocabulary: every row is usable, and every word leads back to one thing."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from t2i.world.vocabulary import (
    COLOURS,
    Lang,
    find,
    is_shape,
    plural_of,
    surface_forms,
    things,
)

CATEGORIES = {
    "animal", "plant", "food", "vehicle", "building", "household", "tool", "sport", "music", "clothing",
    "person", "weather", "shape",
}  # fmt: skip


def test_every_row_is_valid() -> None:
    for key, thing in things().items():
        assert key == thing.key and re.fullmatch(r"[a-z][a-z0-9_]*", key)
        assert re.fullmatch(r"shape:[a-z]+|[0-9a-f]{4,5}(-[0-9a-f]{4,5})*", thing.sprite), thing
        assert is_shape(thing) == (thing.category == "shape") == key.startswith("shape_")
        assert thing.en and thing.plural and thing.en == thing.en.strip() and "|" not in thing.en
        assert re.search(r"[\u4e00-\u9fff]", thing.zh) and re.fullmatch(r"[\u4e00-\u9fff]", thing.measure)
        assert all(re.search(r"[\u4e00-\u9fff]", word) for word in thing.synonyms_zh)
        assert all(all(plural_of(word)) for word in thing.synonyms_en)
        assert thing.category in CATEGORIES
        assert thing.pose in {"stand", "lie", "fly", "swim", "hang"}
        assert 0.3 <= thing.size <= 3
        assert thing.colour in {"", *COLOURS} and set(thing.colours) <= set(COLOURS)
        assert len(set(thing.colours)) == len(thing.colours)


def test_enough_things_and_the_core_first() -> None:
    rows = list(things().values())
    assert sum(not is_shape(thing) for thing in rows) >= 220
    assert sum(is_shape(thing) for thing in rows) >= 24
    core = [thing.core for thing in rows]
    assert sum(core) >= 66 and core == sorted(core, reverse=True)
    sprites = [thing.sprite for thing in rows]
    assert len(set(sprites)) == len(sprites)


@pytest.mark.parametrize("lang", get_args(Lang))
@pytest.mark.parametrize("shapes", [False, True])
def test_no_surface_form_is_claimed_twice(lang: Lang, shapes: bool) -> None:
    owner: dict[str, str] = {}
    for thing in things().values():
        if is_shape(thing) == shapes:
            for form in surface_forms(thing, lang):
                assert owner.setdefault(form.lower(), thing.key) == thing.key, form


@pytest.mark.parametrize("lang", get_args(Lang))
def test_every_form_is_found(lang: Lang) -> None:
    for thing in things().values():
        for form in surface_forms(thing, lang):
            assert find(form, lang, "shapes" if is_shape(thing) else "sprites") == thing.key


def test_find_prefers_the_sprite_and_knows_unknown_words() -> None:
    assert find("star") == "star" and find("star", among="all") == "star"
    assert find("star", among="shapes") == "shape_star" and find("星星", "zh", "shapes") == "shape_star"
    assert find("hexagon") is None and find("hexagon", among="all") == "shape_hexagon"
    assert find("Kittens") == "cat" and find("mice") == "mouse" and find("coffee") == "coffee"
    assert find("猫咪", "zh") == "cat" and find("帽子", "zh") == "top_hat" and find("hat") == "top_hat"
    assert find("democracy") is None


def test_colours() -> None:
    assert {
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "grey",
    } == set(COLOURS)
    assert all(0 <= value <= 255 for _, rgb in COLOURS.values() for value in rgb)

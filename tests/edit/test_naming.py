"""Words to things, their number and their place; what a text says besides."""

from __future__ import annotations

import pytest

from t2i.edit.naming import NamedPlace, NamedThing, asked_by, negation, number
from t2i.world.captions.phrases import PLACES
from t2i.world.judge_config import JudgeConfig
from t2i.world.reading import OWN, Detection, Reading

KNOWN = JudgeConfig(
    ("cat", "dog", "car", "orange", "teddy_bear", "bear", "tree", "snowman", "sheep"),
    (OWN, "red"),
    tuple(PLACES),
    ("none", "red", "blue"),
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("the cat", [NamedThing("cat")]),
        ("The red car", [NamedThing("car", "red")]),
        ("the kitten in the snow", [NamedThing("cat")]),
        ("a teddy bear", [NamedThing("teddy_bear")]),
        ("the orange", [NamedThing("orange")]),
        ("an orange cat", [NamedThing("cat", "orange")]),
        ("the gray cat and the dog", [NamedThing("cat", "grey"), NamedThing("dog")]),
        ("the cat next to the dog", [NamedThing("cat")]),
        ("cats", [NamedThing("cat", several=True)]),
        ("red kittens and a dog", [NamedThing("cat", "red", True), NamedThing("dog")]),
        ("the sheep", [NamedThing("sheep")]),  # one, or several: the word does not tell
        ("猫", [NamedThing("cat")]),
        ("红色的汽车和狗", [NamedThing("car", "red"), NamedThing("dog")]),
        ("the snow", []),
        ("the elephant", []),  # not among the known things
    ],
)
def test_what_a_text_names(text: str, named: list[NamedThing]) -> None:
    assert asked_by(text, KNOWN).named == tuple(named)


@pytest.mark.parametrize(
    ("text", "place", "shade"),
    [
        ("a cat in the snow", "snow", None),
        ("a cat in snow", "snow", None),
        ("at night, a dog", "night", None),
        ("dogs in front of the mountains", "mountains", None),
        ("a cat on a red background", "plain", "red"),
        ("雪地里的一只猫", "snow", None),
        ("夜里有一只猫", "night", None),
        ("一只狗在蓝色背景上", "plain", "blue"),
        ("a snowman", None, None),
        ("a cat on a sofa", None, None),
        ("a cat on a purple background", None, None),  # a shade that the judge does not know
    ],
)
def test_where_it_is(text: str, place: str | None, shade: str | None) -> None:
    found = asked_by(text, KNOWN).place
    assert (found and found.shade) == shade
    assert (set() if found is None else found.places) == ({place} if place else set())


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("there is a red cat in the snow", ()),
        ("雪地里有一只红色的猫", ()),
        ("a picture of the cats", ()),
        ("a cute cat wearing a hat", ("cute wearing hat",)),
        ("the cat on the left and a big dog", ("on left", "big")),
        ("a red and white cat", ("red",)),
        ("a cat on a purple background", ("on purple background",)),
        ("一只可爱的猫", ("可爱",)),
    ],
)
def test_no_word_is_dropped_in_silence(text: str, more: tuple[str, ...]) -> None:
    assert asked_by(text, KNOWN).more == more


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat in snow", "a cat, in snow"),
        ("雪地里的一只猫", "a cat, in the snow"),
        ("夜里有一只猫", "a cat, at night"),
        ("一只狗在蓝色背景上", "a dog, on a blue background"),
    ],
)
def test_the_place_is_said_in_english(text: str, words: str) -> None:
    assert asked_by(text, KNOWN).words == words


def test_what_is_asked_for_is_said() -> None:
    asked = asked_by("red cats and a dog in the snow", KNOWN)
    assert asked.words == "two or more red cats and a dog, in the snow" and not asked.is_plain
    assert asked.things_alone().words == "a red cat and a dog" and asked.things_alone().is_plain


def test_what_is_missing_is_said() -> None:
    one = Detection("cat", 0.3, 0.5, 0.9, OWN, 0.2, 0.2)
    assert [NamedThing("cat", several=True).lack([one] * n) for n in range(3)] == ["no cat", "only one cat", ""]
    assert NamedThing("cat").lack([one]) == "" and NamedThing("cat", "red").lack([one]) == "no red cat"
    snow, red = NamedPlace("in the snow", frozenset({"snow"})), NamedPlace("on a red wall", frozenset({"plain"}), "red")
    assert snow.lack(Reading((one,), "snow", 1.0, None)) == "" == red.lack(Reading((), "plain", 1.0, "red"))
    assert snow.lack(Reading((one,), "beach", 1.0, None)) == "not in the snow (seen: beach)"
    assert red.lack(Reading((one,), "plain", 1.0, "blue")) == "not on a red wall (seen: blue background)"


@pytest.mark.parametrize(
    ("text", "no", "count"),
    [
        ("no cat", "no", None),
        ("a cat without a hat", "without", None),
        ("it isn't a dog", "n't", None),
        ("a non-stick pan", None, None),
        ("没有猫", "没有", None),
        ("不是狗", "不是", None),
        ("无猫", "无", None),
        ("不红的猫", "不红", None),
        ("除猫外", "除", None),
        ("雪地里不见猫", "不见", None),
        ("two cats", None, "two"),
        ("2 cats and 1 dog", None, "2"),
        ("两只猫", None, "两"),
        ("12只猫", None, "12"),
        ("a cat and one dog", None, None),
        ("一只红色的猫", None, None),
        ("三明治和不明飞行物", None, None),  # a sandwich and a UFO
        ("不锈钢锅", None, None),  # a stainless steel pot
        ("无线耳机", None, None),  # wireless headphones
        ("无人机和沉没的船", None, None),  # a drone and a sunken ship
        ("空无一人的海滩上的狗", None, None),  # a deserted beach
        ("the notebook and the four-leaf clover", None, None),
    ],
)
def test_what_a_text_says_besides(text: str, no: str | None, count: str | None) -> None:
    assert (negation(text), number(text)) == (no, count)

"""The words that a model knows, and those that its pictures do not show."""

from __future__ import annotations

import pytest

from t2i.data.source import WorldSource
from t2i.store.bundle import read_bundle
from t2i.store.registry import resolve
from t2i.text.words import BUILT_IN, KnownWords
from t2i.world import World, WorldConfig

NOTES = {
    "words": "a cat is in the snow playing sitting swimming 猫 在 玩 耍 坐 着",
    "training": {"base": {"data": BUILT_IN}},
}


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a cat playing in the snow", ["playing"]),
        ("A cat Sitting and playing, playing", ["sitting", "playing"]),
        ("一只猫在雪地里玩耍", ["玩耍"]),
        ("猫坐着", ["坐"]),
        ("a cat in the snow", []),
        ("猫在雪地里", []),
        ("a swimming pool, playing cards and a flying saucer", []),  # things
        ("a cat resting", []),  # never read: told as such
        ("一只猫在游泳", []),
    ],
)
def test_actions_that_are_not_drawn(prompt: str, told: list[str]) -> None:
    assert KnownWords.from_notes(NOTES).undrawn(prompt) == told


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("雪地里的长颈鹿", ["地里的长颈鹿"]),
        ("猫和鹿、鹿", ["和鹿", "鹿"]),
        ("长颈鹿在玩。一只长颈鹿", ["长颈鹿", "一只长颈鹿"]),
        ("颈猫鹿", ["颈", "鹿"]),
        ("a zebra长颈鹿 zebra", ["zebra", "长颈鹿"]),
        ("颈 鹿", ["颈", "鹿"]),
    ],
)
def test_unknown_characters_in_a_row_are_one_word(prompt: str, told: list[str]) -> None:
    assert KnownWords.from_notes({"words": "a cat 猫 雪 在 玩"}).unknown(prompt) == told


@pytest.mark.parametrize(
    "training",
    [{}, None, {"base": {"data": "9 captioned pictures of the folder a"}}, {"base": {"data": BUILT_IN}, "clip": {}}],
)
def test_other_pictures_may_show_them(training: object) -> None:
    assert not KnownWords.from_notes({**NOTES, "training": training}).undrawn("a cat playing")


def test_trainings_on_the_built_in_world_are_known_by_their_notes() -> None:
    world = World(WorldConfig(vocabulary="shapes"))
    assert WorldSource(world).describe().startswith(BUILT_IN)
    words = KnownWords.from_notes(read_bundle(resolve("small")).manifest.notes)
    assert words.undrawn("a dog is playing") == words.adding(["<mine>"]).undrawn("a dog is playing") == ["playing"]
    assert words.undrawn("小狗在海边玩耍") == ["玩耍"]
